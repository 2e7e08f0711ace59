"""Datasets: fixed, ordered, hashed."""

#: registered name -> where the class is
TABLE = {
    "digits": "harness.data.digits:Digits",
}
