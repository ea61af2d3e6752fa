"""COCO's numbers as its own code computes them."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def evaluate(truths, detections, classes, *, size=(1000, 1000), masks=False, limits=(1, 10, 100)):
    """The evaluation of pycocotools of the dictionaries that `coco_precision` takes; its -1 become NaN.

    Returns:
        Twelve numbers; precision by threshold, recall, class and area; recall by threshold, class, area and limit.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = prepare(truths, detections, classes, size=size, masks=masks, limits=limits)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    found = evaluation.stats, evaluation.eval["precision"][..., -1], evaluation.eval["recall"]
    return tuple(np.where(numbers == -1, np.nan, numbers) for numbers in found)


def prepare(truths, detections, classes, *, size=(1000, 1000), masks=False, limits=(1, 10, 100)):
    """The evaluation before it is run."""
    annotations, results = [], []
    for picture, (true, found) in enumerate(zip(truths, detections, strict=True)):
        for slot, number in enumerate(true["classes"]):
            box = _as_coco(true["boxes"][slot])
            one = {
                "id": len(annotations) + 1,
                "image_id": picture,
                "category_id": int(number),
                "bbox": box,
                "iscrowd": int(true["crowd"][slot]) if "crowd" in true else 0,
                "area": float(true["area"][slot]) if "area" in true else box[2] * box[3],
            }
            annotations.append(one | ({"segmentation": true["masks"][slot]} if masks else {}))
        for slot, number in enumerate(found["classes"]):
            one = {"image_id": picture, "category_id": int(number), "score": float(found["scores"][slot])}
            where = {"segmentation": found["masks"][slot]} if masks else {"bbox": _as_coco(found["boxes"][slot])}
            results.append(one | where)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": picture, "height": size[0], "width": size[1]} for picture in range(len(truths))],
            "annotations": annotations,
            "categories": [{"id": number} for number in range(classes)],
        }
        coco.createIndex()
        if results:
            found = coco.loadRes(results)
        else:
            # It cannot load an empty list.
            found = COCO()
            found.dataset = coco.dataset | {"annotations": []}
            found.createIndex()
        evaluation = COCOeval(coco, found, "segm" if masks else "bbox")
    evaluation.params.maxDets = list(limits)
    return evaluation


def _as_coco(box):
    left, top, right, bottom = (float(edge) for edge in box)
    return [left, top, right - left, bottom - top]
