"""The terms of the training loss, one file each; :mod:`~sgflux.training.terms.table` lists them.

    L = L_gen or L_gen_rel  +  sum over the other terms of weight(step) * L_term

All terms see the same latents and noise, and all but the anchor the same sigma.
"""
