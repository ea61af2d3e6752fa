"""What windows of pictures are, pixel by pixel in plain loops."""

import math

import numpy as np


def resized(picture, window, size, fill):
    """The window of a picture on an endless canvas of `fill`, by weights that fall off linearly, on the scale of it."""
    height, width, channels = picture.shape
    result = np.zeros((*size, channels))
    for i in range(size[0]):
        for j in range(size[1]):
            whole = 0.0
            for y, down in weights(window[1], window[3], size[0], i):
                for x, along in weights(window[0], window[2], size[1], j):
                    inside = 0 <= y < height and 0 <= x < width
                    result[i, j] += down * along * (picture[y, x] if inside else np.asarray(fill))
                    whole += down * along
            result[i, j] /= whole
    return result


def nearest(mask, window, size):
    """What a mask shows under the centre of each pixel; zero beyond it."""
    result = np.zeros((*size, *mask.shape[2:]), mask.dtype)
    for i in range(size[0]):
        for j in range(size[1]):
            y = math.floor(window[1] + (i + 0.5) * (window[3] - window[1]) / size[0])
            x = math.floor(window[0] + (j + 0.5) * (window[2] - window[0]) / size[1])
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]:
                result[i, j] = mask[y, x]
    return result


def boxed(box, window, size):
    """Where a box lies then, cut at the border; zeros if it is empty or beyond."""
    scale = np.asarray(size[::-1]) / (np.asarray(window[2:]) - window[:2])
    low = np.clip((box[:2] - window[:2]) * scale, 0, size[::-1])
    high = np.clip((box[2:] - window[:2]) * scale, 0, size[::-1])
    empty = (box[2:] <= box[:2]).any() or (high <= low).any()
    return np.zeros(4) if empty else np.concatenate([low, high])


def windows_of(points, shape, size):
    """The windows (x_min, y_min, x_max, y_max), read off where the corners of pictures of a shape have gone."""
    low, high = np.moveaxis(np.asarray(points, float), 1, 0)
    scale = (high - low) / np.asarray(shape[::-1])
    return np.concatenate([-low / scale, (np.asarray(size[::-1]) - low) / scale], 1)


def corners(count, shape):
    """The upper left and the lower right corner, as key points of each picture."""
    return np.tile(np.float32([[0, 0], shape[::-1]]), (count, 1, 1))


def weights(low, high, count, place):
    """The pixels that count in one of `count` that cover low to high, each with its weight."""
    step = (high - low) / count
    centre, reach = low + (place + 0.5) * step, max(step, 1.0)
    for pixel in range(math.floor(low), math.ceil(high)):
        weight = 1 - abs(pixel + 0.5 - centre) / reach
        if weight > 0:
            yield pixel, weight
