"""Said before it is trained: a model of English books, 321 times larger than all of it.

Question: sixteen small models (4 to 32 units) read 34 to 271 KB of old books, once. How
well will one of 1,024 units do that reads 9.8 MB?

Command: scalepred --config=experiments/forecast_books.py --workdir=runs/books
Data: 66 books of 1600 to 1910, 21.7 MB of plain English text, or another such text:
      scripts/prepare_data.py --dataset=books --from=books.txt
Hardware: two CPU cores; the target is trained twice, a core each.
Cost: evidence 7.27e10 FLOPs in all, some 10 s of a core; one target run 2.33e13, 321
times that, 4 minutes of a core that does 100 GFLOP/s.

Answer: said 1.522 nats a byte (90 % interval 1.349 to 1.671), then measured 1.452: 5 %
too high, inside.

Settings: 3 of training, 1 range of sizes and 3 laws were tried, on runs of at most
1/1100 of the target's FLOPs; nothing larger was trained before the forecast. What
forecast_stdlib had found (the family, no weight decay, batches of 256 bytes) was kept.
- Rates 0.01, 0.02, 0.04 at 8 and 32 units, 69 and 274 KB: 0.02 is best at three of the
  four (0.04 by 0.2 % at the fourth), the others up to 5 % worse.
- Law: hiding the largest width and data, `auto` errs by 0.7 % at the corner and by
  -0.8 % +- 1.2 % over all hidden cells, `chinchilla` by 4.8 and 1.2 % +- 2.0 %,
  `rosenfeld` by 4.6 and 1.2 % +- 1.9 %; hiding what costs most, 0.3 and 0.2 % (above
  1/3 and 1/6), 3.7 and 3.2 %, 3.1 and 3.2 %. They disagree: 1.52, 1.83 and 1.81 for the
  target. Data are worth more to wide models here, which a sum of two terms cannot say.
- Without the smallest width, data or both `auto` says 1.49, 1.49 and 1.54.
"""

from bases import text_forecasts

from scalepred import config


def get_config() -> config.Experiment:
    """16 runs of evidence; one target, twice."""
    return text_forecasts.study(
        "forecast_books",
        "books",
        widths=(4, 8, 16, 32),
        data_fractions=(1 / 576, 1 / 288, 1 / 144, 1 / 72),
        target_width=1024,
        target_fraction=1 / 2,
        learning_rate=0.02,
    )
