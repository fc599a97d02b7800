//! Records and queues that one tunnel holds in reserve, so that busy sessions need neither the lock of
//! a table nor the allocator.

use std::collections::VecDeque;

use super::entries::Entries;
use super::layout::TableKind;

/// The maximum number of empty queues that are kept.
const MAX_QUEUES: usize = 64;

/// The maximum capacity of a queue that is kept.
const MAX_CAPACITY: usize = 16;

/// Free records of a table, and memory for the queues that describe those in use.
#[derive(Debug)]
pub(super) struct Stock<T> {
    pub(super) entries: Entries,
    queues: Vec<VecDeque<T>>,
}

impl<T> Stock<T> {
    pub(super) fn new(kind: TableKind) -> Self {
        Self { entries: Entries::new(kind), queues: Vec::new() }
    }

    /// Appends to a queue. An empty one gets memory that was in use.
    pub(super) fn push(&mut self, queue: &mut VecDeque<T>, value: T) {
        if queue.capacity() == 0
            && let Some(used) = self.queues.pop()
        {
            *queue = used;
        }
        queue.push_back(value);
    }

    /// Takes the memory of a queue that is empty, because an idle session holds none.
    pub(super) fn reclaim(&mut self, queue: &mut VecDeque<T>) {
        if queue.is_empty() {
            let queue = std::mem::take(queue);
            if self.queues.len() < MAX_QUEUES && (1..=MAX_CAPACITY).contains(&queue.capacity()) {
                self.queues.push(queue);
            }
        }
    }

    /// Frees the memory of the queues.
    pub(super) fn trim(&mut self) {
        self.queues = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_queue_holds_no_memory_and_the_next_one_gets_it() {
        let mut stock = Stock::new(TableKind::Packets);
        let (mut first, mut second) = (VecDeque::new(), VecDeque::new());
        stock.push(&mut first, 1);
        stock.reclaim(&mut first);
        assert_eq!(first, [1], "in use");
        first.clear();
        let capacity = first.capacity();
        stock.reclaim(&mut first);
        assert_eq!((first.capacity(), stock.queues.len()), (0, 1));
        stock.push(&mut second, 2);
        assert_eq!((second.capacity(), stock.queues.len()), (capacity, 0));
        assert_eq!(second, [2]);
    }

    #[test]
    fn large_queues_and_many_of_them_are_freed() {
        let mut stock = Stock::<u8>::new(TableKind::Packets);
        stock.reclaim(&mut VecDeque::with_capacity(MAX_CAPACITY + 1));
        stock.reclaim(&mut VecDeque::new());
        assert!(stock.queues.is_empty());
        (0..=MAX_QUEUES).for_each(|_| stock.reclaim(&mut VecDeque::with_capacity(4)));
        assert_eq!(stock.queues.len(), MAX_QUEUES);
        stock.trim();
        assert!(stock.queues.is_empty());
    }
}
