"""Pictures of fixed graphs that are drawn and judged with every validation of a training."""
