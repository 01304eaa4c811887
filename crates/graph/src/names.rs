//! Names that are given once each.

use std::collections::HashMap;

/// Names that are taken, and how many were made of each, so that the next is found at once (TensorFlow:
/// `Graph.unique_name`).
#[derive(Debug, Clone, Default)]
pub struct Names(HashMap<String, usize>);

impl Names {
    /// Takes a name: `name` itself when it is free, otherwise `name_1`, `name_2` and so on.
    pub fn unique(&mut self, name: impl Into<String>) -> String {
        let name = name.into();
        let mut candidate = name.clone();
        // Two names can collide through a suffix, so the candidate itself is looked up too.
        while self.0.contains_key(&candidate) {
            let count = self.0.entry(name.clone()).or_default();
            *count += 1;
            candidate = format!("{name}_{count}");
        }
        self.0.insert(candidate.clone(), 0);
        candidate
    }
}

impl<S: Into<String>> FromIterator<S> for Names {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        Names(names.into_iter().map(|name| (name.into(), 0)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_given_once() {
        let mut names: Names = ["a", "b_1"].into_iter().collect();
        let given: Vec<String> =
            ["a", "a", "b", "b", "a_1", "c"].into_iter().map(|n| names.unique(n)).collect();
        assert_eq!(given, ["a_1", "a_2", "b", "b_2", "a_1_1", "c"]);
    }
}
