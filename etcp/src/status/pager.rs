//! The part of a long text that fits a terminal, and the line below it.

/// The sign that something is cut.
const CUT: char = '…';

/// The size of a terminal; a size that is not known is unlimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Room {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Room {
    /// Returns the room of a terminal with this many cells, 0 if that is not known.
    pub(super) fn of(rows: u16, columns: u16) -> Self {
        let room = |cells: u16| if cells > 1 { usize::from(cells) } else { usize::MAX };
        Self { rows: room(rows), columns: room(columns) }
    }
}

/// A movement through the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scroll {
    Lines(isize),
    Pages(isize),
    Start,
    End,
}

/// The first row that is shown.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Pager {
    top: usize,
}

impl Pager {
    /// Moves the shown part. [`Self::page`] keeps it inside the text.
    pub(super) fn scroll(&mut self, by: Scroll, room: Room) {
        let page = room.rows.saturating_sub(2).clamp(1, 1000);
        let page = isize::try_from(page).unwrap_or(1);
        self.top = match by {
            Scroll::Lines(lines) => self.top.saturating_add_signed(lines),
            Scroll::Pages(pages) => self.top.saturating_add_signed(pages * page),
            Scroll::Start => 0,
            Scroll::End => usize::MAX,
        };
    }

    /// Returns the text that replaces the contents of the screen. Each row clears the rest of its
    /// line, and a last line says what is not shown.
    pub(super) fn page(&mut self, text: &str, room: Room) -> String {
        let count = text.lines().count();
        let shown = room.rows.saturating_sub(1).min(count);
        self.top = self.top.min(count - shown);
        let rows = text.lines().skip(self.top).take(shown);
        let rows: String =
            rows.map(|row| format!("{}\x1b[K\r\n", cut(row, room.columns))).collect();
        let range = match count {
            _ if shown == count => String::new(),
            _ => format!(
                "rows {}-{} of {count} {CUT} space, b: page  ",
                self.top + 1,
                self.top + shown
            ),
        };
        let below = cut(&format!("{range}q: end"), room.columns);
        format!("\x1b[H{rows}\x1b[7m{below}\x1b[m\x1b[K\x1b[J")
    }
}

/// Cuts a row; a longer one would wrap.
pub(super) fn cut(row: &str, columns: usize) -> String {
    if row.chars().count() <= columns {
        return row.to_owned();
    }
    row.chars().take(columns.saturating_sub(1)).chain([CUT]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(page: &str) -> Vec<&str> {
        page.split("\x1b[K").collect()
    }

    #[test]
    fn nothing_is_cut_without_a_sign() {
        assert_eq!(cut("zwölf", 5), "zwölf");
        assert_eq!(cut("zwölf", 4), "zwö…");
        let room = Room { rows: 3, columns: 40 };
        let page = Pager::default().page("one\ntwo\nthree\n", room);
        assert_eq!(
            page,
            "\x1b[Hone\x1b[K\r\ntwo\x1b[K\r\n\x1b[7mrows 1-2 of 3 … space, b: page  q: end\x1b[m\x1b[K\x1b[J"
        );
        let whole = Pager::default().page("one\n", Room::of(0, 0));
        assert_eq!(whole, "\x1b[Hone\x1b[K\r\n\x1b[7mq: end\x1b[m\x1b[K\x1b[J");
    }

    #[test]
    fn thousands_of_rows_are_paged_through_and_stay_in_place_when_they_change() {
        let text = |count: usize| (1..=count).map(|row| format!("row {row}\n")).collect::<String>();
        let (mut pager, room) = (Pager::default(), Room { rows: 25, columns: 80 });
        let first = |pager: &mut Pager, count| {
            let page = pager.page(&text(count), room);
            rows(&page)[0].trim_start_matches("\x1b[H").to_owned()
        };
        assert_eq!(first(&mut pager, 3500), "row 1");
        pager.scroll(Scroll::Pages(1), room);
        assert_eq!(first(&mut pager, 3500), "row 24");
        pager.scroll(Scroll::Lines(-3), room);
        assert_eq!(first(&mut pager, 3500), "row 21");
        pager.scroll(Scroll::End, room);
        assert_eq!(first(&mut pager, 3500), "row 3477");
        assert_eq!(first(&mut pager, 100), "row 77");
        pager.scroll(Scroll::Pages(-100), room);
        assert_eq!(first(&mut pager, 100), "row 1");
        pager.scroll(Scroll::End, room);
        pager.scroll(Scroll::Start, room);
        assert_eq!(first(&mut pager, 10), "row 1");
    }
}
