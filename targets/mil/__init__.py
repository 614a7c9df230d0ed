"""Core ML packages without Core ML: writing them reproducibly, reading them back, and what their operators mean.

A `.mlpackage` holds a program in MIL, Apple's model intermediate language: a list of operations in order, each with a
type ("conv"), named inputs and typed outputs. Weights lie beside it in a blob file.

    package.py     the folder: model, weights and a list of its items
    program.py     model and weights -> typed operations and numpy arrays
    operators.py   type of an operation -> its meaning in numpy

`targets/reference.py` puts the three together.
"""
