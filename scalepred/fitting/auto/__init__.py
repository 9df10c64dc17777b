"""law=auto: one flexible law under several priors, averaged by back-tests.

`law` says what is fitted, `priors` what is believed before, `posterior` what the points
make of it, `draws` how sure that is; `weights` judges the models of the average, `mean`
makes one law of them, `fit` is the whole, and `curves` its form along one size.
"""
