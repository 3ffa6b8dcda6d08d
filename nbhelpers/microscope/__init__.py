"""A microscope for any network: every layer and every channel as a page, drawn, compared with photographs, doubted.

    nbhelpers microscope minivgg_robust --photos FOLDER      # results/microscope/minivgg_robust/index.html

`made` draws the pictures, as jobs that are done once and wherever there are workers; `photographs` says what drives
each channel and what it tells apart; `tuning` what early ones are tuned to; `two_choice` whether pictures tell what
photos do; `circuits` what it is made of; `speaking` for which classes it speaks; `site` writes the pages.
`channel_study` is one channel alone, as notebook 13 looks at it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["channel_study", "circuits", "made", "photographs", "site", "speaking", "tuning", "two_choice"],
)
