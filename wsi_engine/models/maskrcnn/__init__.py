"""``mask-rcnn``: a box around each nucleus, and a mask in each box.

`spec` states the facts, `network` is torchvision's Mask R-CNN on a compact backbone, `detection`
asks it without anything that depends on the size of the image, `boxes` suppresses what lies on
a better box, `decoding` pastes masks and outlines them, `model` runs all behind the engine's
protocol; `learning` and `losses` are what it learns.

References
----------
He K, Gkioxari G, Dollár P, Girshick R. Mask R-CNN. ICCV 2017:2980-2988.
Lin TY et al. Feature pyramid networks for object detection. CVPR 2017:936-944.
"""
