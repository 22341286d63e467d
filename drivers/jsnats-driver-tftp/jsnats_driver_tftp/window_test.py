from jsnats_driver_tftp.window import Window


def test_one_block_at_a_time() -> None:
    """The next is sent when the last was acknowledged; a repeated acknowledgement sends nothing."""
    window = Window(1, first=1)
    assert list(window.due(1)) == [0]
    assert window.take(0) == 0
    assert list(window.due(1)) == []
    assert window.take(1) == 1
    assert list(window.due(1)) == [0]
    assert window.take(0) is None
    assert window.acked == 1


def test_options_are_answered_first() -> None:
    """Block 0 goes alone, whatever the window."""
    window = Window(8, first=0)
    assert window.room == 1
    assert list(window.due(1)) == [0]
    assert window.take(0) == 1
    assert window.room == 8


def test_a_window_goes_on_behind_what_was_lost() -> None:
    """Blocks 1 to 4 are under way, 3 is lost: the client acknowledges 2, and 3 is sent again with what follows."""
    window = Window(4, first=1)
    assert list(window.due(4)) == [0, 1, 2, 3]
    assert window.take(2) == 2
    assert list(window.due(4)) == [0, 1, 2, 3]
    assert window.take(6) == 4


def test_all_again() -> None:
    """After silence, what was not acknowledged is due once more."""
    window = Window(4, first=1)
    window.due(3)
    window.back()
    assert list(window.due(3)) == [0, 1, 2]


def test_numbers_go_on_at_0() -> None:
    """Behind block 65535, which a window may hold in its middle."""
    window = Window(4, first=1)
    for number in range(2, 65535, 2):
        window.due(2)
        assert window.take(number) == 2
    window.due(4)
    assert window.take(1) == 3
    assert window.acked == 65537


def test_what_was_never_sent() -> None:
    """It cannot be acknowledged."""
    window = Window(4, first=1)
    window.due(2)
    assert window.take(3) is None
    assert window.take(40000) is None
    assert window.acked == 0
