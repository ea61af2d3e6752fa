import pytest
import tyro

from cnnjax.image_size import ImageSize, height_and_width, joined_sizes


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, None), (32, (32, 32)), ((40, 64), (40, 64)), ([40, 64], (40, 64))],
)
def test_a_size_is_one_number_or_height_and_width(given, expected):
    assert height_and_width(given) == expected


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("wrong", [0, -3, True, 2.5, "40x64", (40,), (40, 64, 3), (0, 4), (4, 2.5), (True, 4), "ab"])
def test_anything_else_is_an_error_that_shows_both_ways(wrong):
    with pytest.raises(ValueError, match=r"image_size=.*; expected a number of pixels above 0, or height and width"):
        height_and_width(wrong)


def of_command_line(*arguments):
    def sizes(model: tyro.conf.Positional[str] = "lenet5", image_size: ImageSize = None):
        return model, image_size

    return tyro.cli(sizes, args=joined_sizes(arguments))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ("lenet5", None)),
        (["--image-size", "224", "resnet20"], ("resnet20", 224)),
        (["--image-size", "40", "64", "resnet20"], ("resnet20", (40, 64))),
        (["resnet20", "--image_size", "40", "64"], ("resnet20", (40, 64))),
        (["--image-size", "40x64", "resnet20"], ("resnet20", (40, 64))),
        (["--image-size=40x64"], ("lenet5", (40, 64))),
        (["--image-size", "None"], ("lenet5", None)),
    ],
)
def test_sizes_on_the_command_line(arguments, expected):
    assert of_command_line(*arguments) == expected


@pytest.mark.parametrize("words", [["40x"], ["x40"], ["4.5"], ["40", "64", "3"], ["small"], ["-3"]])
def test_words_that_are_no_size_are_refused(words, capsys):
    with pytest.raises(SystemExit):
        of_command_line("--image-size", *words)
    assert "--image-size" in capsys.readouterr().err
