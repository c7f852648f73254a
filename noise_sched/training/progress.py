"""A progress line: step, loss, images per second, time to go."""

import io
import sys
import time

import jax


class Progress:
    """Shows how far a run is; on a terminal one line rewritten in place, else a line now and then.

    Speed is over the time since the previous line, smoothed, so that the compilation of the first
    step does not spoil it for long. Only the first process of a run prints.
    """

    def __init__(
        self,
        total_steps: int,
        *,
        start_step: int = 0,
        images_per_step: int = 0,
        every_seconds: float | None = None,
        stream: io.TextIOBase | None = None,
    ):
        """Prints nothing yet.

        Args:
          total_steps: steps of the whole run.
          start_step: the step it starts from, after a resume.
          images_per_step: the global batch size; 0 shows steps per second instead.
          every_seconds: at least this long between lines; None for 0.5 on a terminal, else 10.
          stream: where to; None for standard error.
        """
        self._total, self._images = total_steps, images_per_step
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._every = (0.5 if self._terminal else 10.0) if every_seconds is None else every_seconds
        self._quiet = jax.process_index() != 0
        self._shown_at, self._shown_step = time.monotonic(), start_step
        self._first_step = start_step + 1  # takes as long as compiling does
        self._rate: float | None = None
        self._width = 0
        self._unfinished_line = False

    def update(self, step: int, loss: float | None = None) -> None:
        """Says that `step` steps are done; prints if it is time to, and after the last step."""
        now = time.monotonic()
        if step == self._first_step:
            self._shown_at, self._shown_step = now, step
        if self._quiet or (now - self._shown_at < self._every and step < self._total):
            return
        elapsed, steps = now - self._shown_at, step - self._shown_step
        if steps > 0 and elapsed > 0:
            rate = steps / elapsed
            self._rate = rate if self._rate is None else 0.7 * rate + 0.3 * self._rate
        self._shown_at, self._shown_step = now, step
        self._write(self._line(step, loss), last=step >= self._total)

    def close(self) -> None:
        """Ends the line on a terminal, so that what is printed next starts a new one."""
        if self._unfinished_line:
            self._stream.write("\n")
            self._stream.flush()
            self._unfinished_line = False

    def _line(self, step: int, loss: float | None) -> str:
        parts = [f"step {step}/{self._total}"]
        if loss is not None:
            parts.append(f"loss {loss:.4f}")
        if self._rate is not None:
            if self._images:
                parts.append(f"{self._rate * self._images:,.0f} images/s")
            else:
                parts.append(f"{self._rate:.1f} steps/s")
            if step < self._total:
                parts.append(f"{_duration((self._total - step) / self._rate)} to go")
        return "  ".join(parts)

    def _write(self, text: str, *, last: bool) -> None:
        if not self._terminal:
            self._stream.write(text + "\n")
        else:
            self._stream.write("\r" + text.ljust(self._width) + ("\n" if last else ""))
            self._width = len(text)
            self._unfinished_line = not last
        self._stream.flush()


def _duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
    return f"{seconds // 86400} d {seconds % 86400 // 3600:02d} h"
