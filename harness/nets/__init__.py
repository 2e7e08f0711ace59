"""Networks: one file each; their sizes are declared in ``sizes``, which needs no torch."""

#: registered name -> where ``build(size, data)`` is, for networks that recipes train
TABLE = {
    "cnn": "harness.nets.cnn:build",
    "mae": "harness.nets.mae:build",
    "unet": "harness.nets.unet:build",
}
