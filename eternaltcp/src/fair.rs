//! The share of a scarce resource that one user may hold.

/// Returns how many places a user with `own` places may hold while `free` places are unused: half
/// of those that others leave, rounded up. However many users take what they can, something is left
/// for the next one.
pub(crate) fn max_of_one(free: usize, own: usize) -> usize {
    free.saturating_add(own).div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_leaves_something_for_the_next() {
        let mut free = 128;
        let mut shares = Vec::new();
        while free > 0 {
            let mut own = 0;
            while free > 0 && own < max_of_one(free, own) {
                (free, own) = (free - 1, own + 1);
            }
            shares.push(own);
        }
        assert_eq!(shares, [64, 32, 16, 8, 4, 2, 1, 1]);
    }
}
