"""Is Muon worth it for a decoder, and does that stay so at 58 times the compute?

Question: twelve decoders (8 to 32 features, two blocks) read 55 to 220 KB of English
books once, with AdamW and with Muon, two seeds each, all else the same. Which has the
lower loss, how much compute does it save, and is it still ahead with 256 features and
2.4 MB, 58 times the compute of an arm's evidence?

Command: scalepred --config=experiments/arms_decoder.py --workdir=runs/arms_decoder
         (the targets, 20 minutes of a core: --verify)
Data: scripts/prepare_data.py --dataset=books
Hardware: two CPU cores.

Answer: on the evidence Muon needs half the compute (90 % interval of the factor 1.45 to
3.2). Said of the target, sealed: 2.8 % lower (0.2 to 6.4), better with 97 %. Measured:
14.9 % higher (11.5 to 18.4), so the order is refuted: at one rate for all sizes Muon
does not stay ahead. AdamW, said to be 1.779, is 1.773 and 1.805; Muon, 1.729, is 2.06.

Settings: rates tried at 16 and 32 features, 110 and 220 KB: AdamW 0.002, 0.004, 0.008,
Muon 0.004, 0.008, 0.016, 0.032. Best of AdamW 0.008 three times of four and 0.004 once
(by 0.5 %), of Muon 0.016 and 0.032 twice each (0.016 at the largest).
"""

from scalepred import config


def get_config() -> config.Experiment:
    """Two arms of 24 runs of evidence; one target, twice an arm."""
    return config.Experiment(
        name="arms_decoder",
        dataset="short_test:books",
        family="transformer",
        metric="loss",
        grid=config.Grid(
            widths=(8, 16, 32),
            depths=(2,),
            data_fractions=(1 / 640, 1 / 320, 1 / 160, 1 / 80),
            seeds=2,
        ),
        training=config.Training(
            optimizer="adamw",
            learning_rate=0.008,
            beta2=0.98,
            schedule="cosine",
            warmup_fraction=0.05,
            clip_norm=1.0,
            batch_size=2,
            epochs=1,
        ),
        fit=config.Fitting(law="auto", random_guess=0),
        targets=config.Targets(widths=(256,), data_fractions=(1 / 8,), seeds=2),
        arms={
            "adamw": {},
            "muon": {"training.optimizer": "muon", "training.learning_rate": 0.016},
        },
    )
