import io

from robot_foundry.runtime.progress import Progress


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_off_a_terminal_a_plain_line_comes_every_ten_seconds_and_at_the_end():
    clock, stream = Clock(), io.StringIO()
    with Progress(100, "episodes", "ingest", stream=stream, clock=clock) as progress:
        for _ in range(25):
            clock.now_s += 1.0
            progress.advance(2, bytes=4_000_000)
        progress.advance(0, errors=3)
        assert stream.getvalue().splitlines() == [
            "ingest: 20/100 episodes, 2 episodes/s, 4 MB/s, 40 s left",
            "ingest: 40/100 episodes, 2 episodes/s, 4 MB/s, 30 s left",
        ]
        clock.now_s += 975.0
    assert stream.getvalue().splitlines()[-1] == (
        "ingest: 50/100 episodes, 0.05 episodes/s, 0.1 MB/s, 3 failed, 16 min 40 s left"
    )


def test_short_work_says_nothing_and_an_unknown_total_has_no_end():
    clock, stream = Clock(), io.StringIO()
    with Progress(None, "rows", "scan", stream=stream, clock=clock) as progress:
        progress.advance(5)
        assert stream.getvalue() == ""
        clock.now_s += 10.0
        progress.advance(5)
        assert stream.getvalue() == "scan: 10 rows, 1 rows/s\n"
    assert stream.getvalue() == "scan: 10 rows, 1 rows/s\n"  # and not a second time


def test_quiet_prints_nothing_anywhere():
    for stream in (io.StringIO(), Terminal()):
        clock = Clock()
        with Progress(2, "rows", "scan", stream=stream, quiet=True, clock=clock) as progress:
            clock.now_s += 60.0
            progress.advance(1)
        assert stream.getvalue() == ""


def test_on_a_terminal_a_bar_shows_label_and_counts():
    stream = Terminal()
    with Progress(4, "rows", "scan", stream=stream) as progress:
        progress.advance(4)

    assert "scan" in stream.getvalue() and "4/4" in stream.getvalue() and "rows/s" in stream.getvalue()


def test_what_is_told_is_a_line_now_or_stays_beside_the_bar():
    clock, stream = Clock(), io.StringIO()
    with Progress(4, "steps", "train", stream=stream, clock=clock) as progress:
        clock.now_s += 2
        progress.advance()
        progress.tell("loss 2")
        progress.advance()
    assert (
        stream.getvalue()
        == "train: 1/4 steps, loss 2, 0.5 steps/s, 6 s left\ntrain: 2/4 steps, 1 steps/s, 2 s left\n"
    )
    with Progress(4, "steps", "train", stream=(stream := Terminal()), clock=clock) as progress:
        clock.now_s += 2
        progress.tell("loss 2")
        progress.advance()
    assert "loss 2" in stream.getvalue()
    with Progress(4, "steps", "train", stream=(stream := io.StringIO()), quiet=True) as progress:
        progress.tell("loss 2")
    assert stream.getvalue() == ""


def test_what_was_done_before_counts_but_not_in_the_rate():
    clock, stream = Clock(), io.StringIO()
    with Progress(1000, "steps", "train", stream=stream, done=400, clock=clock) as progress:
        clock.now_s += 20.0
        progress.advance(40)
        assert stream.getvalue() == "train: 440/1000 steps, 2 steps/s, 4 min 40 s left\n"
