//! The addresses of the server: one or several, the best first.

use std::fmt;

use crate::address::ServerAddress;

/// Addresses of one sproxy, in order of preference; at least one. All must lead to the same sproxy,
/// because the tunnel is in its memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Servers {
    first: ServerAddress,
    others: Vec<ServerAddress>,
}

impl Servers {
    /// Creates a list from the preferred address and the others in order.
    #[must_use]
    pub fn new(first: ServerAddress, others: Vec<ServerAddress>) -> Self {
        Self { first, others }
    }

    /// Creates a list, the preferred address first; `None` for an empty list.
    #[must_use]
    pub fn from_list(servers: Vec<ServerAddress>) -> Option<Self> {
        let mut servers = servers.into_iter();
        servers.next().map(|first| Self { first, others: servers.collect() })
    }

    /// Returns all addresses, the preferred one first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &ServerAddress> {
        let all = [&self.first].into_iter().chain(&self.others);
        all.collect::<Vec<_>>().into_iter()
    }

    /// Returns the address at this position of the order, or the last one.
    pub(crate) fn at(&self, index: usize) -> &ServerAddress {
        index
            .checked_sub(1)
            .and_then(|index| self.others.get(index).or(self.others.last()))
            .unwrap_or(&self.first)
    }

    /// Returns whether there is a choice.
    pub(crate) fn are_several(&self) -> bool {
        !self.others.is_empty()
    }
}

impl From<ServerAddress> for Servers {
    fn from(server: ServerAddress) -> Self {
        Self::new(server, Vec::new())
    }
}

/// Formats `a:6200`, or `a:6200, b:6200`.
impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.others.iter().try_for_each(|server| write!(f, ", {server}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_kept_and_an_empty_list_is_refused() {
        assert_eq!(Servers::from_list(Vec::new()), None);
        let list: Vec<ServerAddress> =
            ["a", "b:7", "::1"].map(|text| text.parse().unwrap()).to_vec();
        let servers = Servers::from_list(list.clone()).unwrap();
        assert_eq!(servers.to_string(), "a:6200, b:7, [::1]:6200");
        assert!(servers.iter().eq(&list));
        assert!((0..3).all(|index| servers.at(index) == &list[index]));
        assert_eq!(servers.at(9), &list[2]);
        assert!(!Servers::from(list[0].clone()).are_several());
    }
}
