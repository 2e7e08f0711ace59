"""Datasets: fixed, ordered, hashed."""

#: registered name -> where the class is
TABLE = {
    "cifar10": "harness.data.cifar10:CIFAR10",
    "digits": "harness.data.digits:Digits",
    "npz": "harness.data.npz:NPZ",
}
