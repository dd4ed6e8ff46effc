"""Files that say where lesions are -> instance masks and weak boxes: pictures, NIfTI, DICOM SEG, LabelMe, COCO, VOC."""
