"""Toy images that look medical, drawn rather than taken from anybody.

=============  =======================================================================
blobs.py       shapes with soft, irregular borders
lesions.py     a lesion on skin, as in dermoscopy: two classes
organs.py      a slice through an abdomen, as in computed tomography: seven classes
folder.py      images and label maps, in the folders that MMSegmentation reads
=============  =======================================================================
"""

from .folder import KINDS, ToyMedicalConfig, write_toy_medical
from .lesions import draw_lesion
from .organs import draw_organs

__all__ = ["KINDS", "ToyMedicalConfig", "draw_lesion", "draw_organs", "write_toy_medical"]
