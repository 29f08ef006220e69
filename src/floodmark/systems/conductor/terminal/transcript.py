"""The widget that shows a page: follows the newest line until somebody scrolls back, and then stays where it is read.

A frame (`show_frame`) costs the blocks that have changed and the lines on the screen, not the page. Reaching the last line again, by any
way, is to follow again. Not here: what a page holds, when frames are due.
"""

from __future__ import annotations

import time
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.reactive import Reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from floodmark.systems.conductor.terminal.page import Page
from floodmark.systems.conductor.terminal.paint import Painter, Palette

LAY_LIMIT_S = 0.008  # of painting what is new or older, in one frame


class Transcript(ScrollView, can_focus=True):
    """Shows the conversation that has the focus."""

    DEFAULT_CSS = """
    Transcript {
        width: 1fr;
        height: 1fr;
        padding: 0 1 0 2;
        overflow-x: hidden;
        overflow-y: scroll;
        scrollbar-size-vertical: 1;
        scrollbar-background: $background;
        scrollbar-background-hover: $background;
        scrollbar-background-active: $background;
        scrollbar-color: $foreground 25%;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_up", show=False),
        Binding("down", "scroll_down", show=False),
        Binding("home", "scroll_home", show=False),
        Binding("end", "scroll_end", show=False),
    ]

    virtual_size = Reactive(Size(0, 0), layout=False)  # HOT: no new layout of the screen when a line comes; the scroll bar is told instead

    def __init__(self, page: Page, *, widget_id: str | None = None) -> None:
        super().__init__(id=widget_id)
        self._page = page
        self._painter: Painter | None = None
        self._painter_of = ("", 0)  # the theme and the width it was made for
        self._shown_with: Painter | None = None
        self._complete = False  # all of the page is laid
        self._moving = False  # the scroll position is being set by us
        self._rest_until_s = 0.0
        self.following = True
        self.frames_count = 0  # frames that showed something new

    @property
    def page(self) -> Page:
        """What is shown."""
        return self._page

    def show(self, page: Page) -> None:
        """Show another page, at its end."""
        if page is not self._page:
            self._page.forget_lines()
        self._page = page
        self.following = True
        self._complete = False
        self._rest_until_s = 0.0
        self.show_frame()

    def show_frame(self) -> None:
        """Bring the screen up to date if anything has changed; cheap if not.

        A frame that cost much is followed by a rest as long as its cost, so that keys are answered whatever is being painted.
        """
        painter = self._current_painter()
        if painter is None:
            return
        if not (self._page.dirty or not self._complete or painter is not self._shown_with):
            return
        if time.perf_counter() < self._rest_until_s:
            return
        began_s = time.thread_time()  # what it costs us, not what others take of this processor
        top = None if self.following else self._page.at(self.scroll_offset.y)
        self._shown_with = painter
        self._complete = self._page.lay(painter, limit_s=LAY_LIMIT_S, hold=top[0] if top else None)
        self._moving = True
        try:
            self.virtual_size = Size(painter.width, self._page.height)
            self.vertical_scrollbar.window_virtual_size = self._page.height
            y = self._page.place(*top) if top else self.max_scroll_y
            if self.following or top:
                self.stand_at(y)
        finally:
            self._moving = False
        self.frames_count += 1
        self.refresh()
        self._rest_until_s = time.perf_counter() + time.thread_time() - began_s

    def stand_at(self, y: float) -> None:
        """Stand at a line at once."""
        if self.is_scrolling or self.scroll_y != y or self.scroll_target_y != y:
            self.scroll_target_y = self.scroll_y = y

    def follow(self) -> None:
        """Go to the newest line and stay with it."""
        self.following = True
        self.stand_at(self.max_scroll_y)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Notice that somebody has scrolled: away from the end, or back to it."""
        super().watch_scroll_y(old_value, new_value)
        if not self._moving:
            self.following = round(new_value) >= self.max_scroll_y

    def render_line(self, y: int) -> Strip:
        """Return a line of the screen."""
        strip = self._page.line(self.scroll_offset.y + y)
        width = self.scrollable_content_region.width
        if strip is None:
            return Strip.blank(width, self.rich_style)
        return strip.crop_extend(0, width, self.rich_style).apply_style(self.rich_style)

    def _current_painter(self) -> Painter | None:
        """The painter for the width and the theme of this moment; None before there is a width."""
        width = self.scrollable_content_region.width - 1  # a column between the text and its scroll bar
        if width <= 0:
            return None
        now = (self.app.theme, width)
        if self._painter is None or now != self._painter_of:
            self._painter = Painter(Palette(self.app.current_theme.to_color_system().generate()), width)
            self._painter_of = now
        return self._painter
