//! A queue of lines that wait to be written: bounded in bytes, with a count of lines that did not
//! fit.

use std::collections::VecDeque;

/// The maximum number of bytes of waiting lines, with [`CHARGE`] for each. A megabyte holds
/// thousands of lines: seconds of a busy server at level DEBUG.
pub(crate) const CAPACITY: usize = 1 << 20;

/// Room beyond [`CAPACITY`] for the program's own messages when it exits.
const RESERVE: usize = 64 << 10;

/// Memory that a line costs besides its bytes, in bytes.
const CHARGE: usize = 64;

/// The next thing to write.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum LogItem {
    /// A line, with its end.
    Line(Vec<u8>),
    /// A gap: this many lines were dropped here.
    Lost(u64),
}

/// The queue. Once it was full, it takes nothing until half of it is free: one long gap is more
/// useful than many short ones.
#[derive(Default, Debug)]
pub(crate) struct LogQueue {
    entries: VecDeque<LogItem>,
    bytes: usize,
    is_full: bool,
    /// All lines that were ever lost.
    lost: u64,
}

impl LogQueue {
    /// Adds a line of the log, or counts it as lost.
    pub(crate) fn push(&mut self, line: Vec<u8>) {
        let cost = line.len() + CHARGE;
        self.is_full |= self.bytes + cost > CAPACITY;
        if self.is_full { self.lose() } else { self.add(line, cost) }
    }

    /// Adds a line ahead of the log: the program's own last message.
    pub(crate) fn push_urgent(&mut self, line: Vec<u8>) {
        let cost = line.len() + CHARGE;
        if self.bytes + cost > CAPACITY + RESERVE { self.lose() } else { self.add(line, cost) }
    }

    fn add(&mut self, line: Vec<u8>, cost: usize) {
        self.bytes += cost;
        self.entries.push_back(LogItem::Line(line));
    }

    /// Returns how many lines were lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Counts a line as lost here.
    pub(crate) fn lose(&mut self) {
        self.lost += 1;
        match self.entries.back_mut() {
            Some(LogItem::Lost(count)) => *count += 1,
            _ => self.entries.push_back(LogItem::Lost(1)),
        }
    }

    /// Takes the next entry.
    pub(crate) fn pop(&mut self) -> Option<LogItem> {
        let entry = self.entries.pop_front();
        if let Some(LogItem::Line(line)) = &entry {
            self.bytes -= line.len() + CHARGE;
        }
        if self.bytes <= CAPACITY / 2 {
            self.is_full = false;
        }
        if self.entries.is_empty() {
            // Free the memory of a burst.
            self.entries.shrink_to(CAPACITY / 1024 / CHARGE);
        }
        entry
    }

    /// Takes the lines up to the next gap, but no more after `most` bytes.
    pub(crate) fn pop_lines(&mut self, most: usize) -> Vec<Vec<u8>> {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while bytes < most && matches!(self.entries.front(), Some(LogItem::Line(_))) {
            let Some(LogItem::Line(line)) = self.pop() else { break };
            bytes += line.len();
            lines.push(line);
        }
        lines
    }

    /// Returns the number of lines that wait, with those that were lost among them.
    pub(crate) fn lines(&self) -> u64 {
        let lines = |entry: &LogItem| match entry {
            LogItem::Line(_) => 1,
            LogItem::Lost(count) => *count,
        };
        self.entries.iter().map(lines).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize) -> Vec<u8> {
        format!("{number:1000}\n").into_bytes()
    }

    #[test]
    fn lines_come_out_in_order_and_a_gap_is_counted_where_it_is() {
        let mut queue = LogQueue::default();
        let fitting = CAPACITY / (1001 + CHARGE);
        (0..fitting + 5).for_each(|number| queue.push(line(number)));
        for number in 0..fitting {
            assert_eq!(queue.pop(), Some(LogItem::Line(line(number))));
        }
        assert_eq!(queue.pop(), Some(LogItem::Lost(5)));
        assert_eq!(queue.pop(), None);
        assert!(queue.is_empty() && queue.bytes == 0);
        assert_eq!(queue.lost(), 5);
    }

    #[test]
    fn lines_are_taken_together_up_to_a_gap_or_a_limit() {
        let mut queue = LogQueue::default();
        (0..5).for_each(|number| queue.push(line(number)));
        queue.lose();
        queue.push(line(6));
        assert_eq!(queue.pop_lines(2002), [line(0), line(1)]);
        assert_eq!(queue.pop_lines(2003), [line(2), line(3), line(4)]);
        assert!(queue.pop_lines(2003).is_empty());
        assert_eq!(queue.pop(), Some(LogItem::Lost(1)));
        assert_eq!(queue.pop_lines(1), [line(6)]);
        assert!(queue.is_empty() && queue.bytes == 0);
    }

    #[test]
    fn a_queue_that_was_full_takes_lines_again_when_half_of_it_is_free() {
        let mut queue = LogQueue::default();
        let fitting = CAPACITY / (1001 + CHARGE);
        (0..=fitting).for_each(|number| queue.push(line(number)));
        let mut lost = 1;
        for _ in 0..fitting.div_ceil(2) - 1 {
            queue.pop();
            queue.push(line(0));
            lost += 1;
        }
        while queue.bytes > CAPACITY / 2 {
            queue.pop();
        }
        queue.push(b"again\n".to_vec());
        let rest: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        let gaps = rest.iter().filter(|entry| matches!(entry, LogItem::Lost(_))).count();
        assert_eq!(gaps, 1);
        assert_eq!(
            rest[rest.len() - 2..],
            [LogItem::Lost(lost), LogItem::Line(b"again\n".to_vec())]
        );
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let mut queue = LogQueue::default();
        for number in 0..100_000 {
            queue.push(b"\n".to_vec());
            queue.push_urgent(line(number));
        }
        assert!(queue.bytes <= CAPACITY + RESERVE);
        assert!(queue.entries.len() * CHARGE <= CAPACITY + RESERVE);
        let huge = vec![b'x'; CAPACITY + RESERVE];
        queue.push(huge.clone());
        queue.push_urgent(huge);
        assert!(queue.bytes <= CAPACITY + RESERVE);
    }

    #[test]
    fn the_programs_last_words_find_a_place_in_a_full_queue() {
        let mut queue = LogQueue::default();
        (0..3000).for_each(|number| queue.push(line(number)));
        queue.push_urgent(b"etcp: the end\n".to_vec());
        let last = std::iter::from_fn(|| queue.pop()).last();
        assert_eq!(last, Some(LogItem::Line(b"etcp: the end\n".to_vec())));
    }
}
