"""Networks and classifiers.

One file for each network, which imports torch; ``networks`` lists them, ``sizes`` has their options, and neither needs
torch.
"""
