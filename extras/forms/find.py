"""stub"""

import dataclasses


@dataclasses.dataclass
class Settings:
    pass


def find(settings):
    pass
