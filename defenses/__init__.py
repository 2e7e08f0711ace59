"""Defenses: each purifies images before an unchanged classifier sees them. One family per file."""

#: registered name -> where the class is
TABLE = {
    "amv-oracle": "defenses.amv_oracle:AMVOracle",
    "bit-depth": "defenses.transforms:BitDepth",
    "blur": "defenses.transforms:Blur",
    "contrastive": "defenses.contrastive:Contrastive",
    "coup": "defenses.coup:COUP",
    "diffpure": "defenses.diffpure:DiffPure",
    "dir": "defenses.dir:DIR",
    "dmae": "defenses.dmae:DMAE",
    "gdmp": "defenses.gdmp:GDMP",
    "jpeg": "defenses.transforms:JPEG",
    "lm": "defenses.lm:LM",
    "mae-pure": "defenses.mae_pure:MAEPure",
    "maep": "defenses.maep:MAEP",
    "maskdit-pure": "defenses.maskdit_pure:MaskDiTPure",
    "nim-mae": "defenses.nim_mae:NIMMAE",
    "noise": "defenses.controls:Noise",
    "none": "defenses.none:Undefended",
    "random-sign": "defenses.controls:RandomSign",
    "resize-pad": "defenses.transforms:ResizePad",
    "rmae-pure": "defenses.mae_pure:RMAEPure",
    "rmaskdit-pure": "defenses.maskdit_pure:RMaskDiTPure",
    "scoreopt": "defenses.scoreopt:ScoreOpt",
    "soap": "defenses.soap:SOAP",
}
