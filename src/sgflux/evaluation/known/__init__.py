"""Pictures that are known, and how good a judge is on them (``sgflux eval calibrate``)."""
