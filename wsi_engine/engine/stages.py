"""The stages of a run in words, for whoever shows its progress."""

STAGES = {
    "tissue": "looking for tissue",
    "regions": "looking for regions",
    "calibration": "calibrating",
    "compiling": "compiling the network, once for this machine (a minute or so)",
    "nuclei": "finding nuclei",
    "measuring": "measuring",
    "writing": "writing",
}
