//! Libraries of functions, each read when it is first asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::{Error, Function, Result};

/// A function that isn't read yet, such as one of a file that has thousands of which a caller runs few.
pub trait Deferred: Send + Sync {
    /// Reads it.
    ///
    /// # Errors
    /// When it isn't well formed, or something in it isn't supported.
    fn read(&self) -> Result<Function>;

    /// Tells the op of each node, arguments left out; cheaper than reading it.
    ///
    /// # Errors
    /// When what it is read from is damaged.
    fn ops(&self, met: &mut dyn FnMut(&str)) -> Result<()>;
}

/// Functions that call each other by name.
///
/// Cloning shares the functions, also what is read of them later.
#[derive(Debug, Clone, Default)]
pub struct Library {
    functions: BTreeMap<String, Arc<Entry>>,
}

enum Entry {
    Read(Arc<Function>),
    /// What it is read from, and what was read.
    Deferred(Box<dyn Deferred>, OnceLock<Arc<Function>>),
}

impl Library {
    /// A library without functions.
    pub fn new() -> Self {
        Library::default()
    }

    /// Adds a function, or replaces the one of that name.
    pub fn insert(&mut self, function: Function) -> Arc<Function> {
        let function = Arc::new(function);
        self.functions.insert(function.name.clone(), Arc::new(Entry::Read(function.clone())));
        function
    }

    /// Adds a function that is read when it is first asked for, or replaces the one of that name.
    pub fn defer(&mut self, name: impl Into<String>, deferred: impl Deferred + 'static) {
        let entry = Entry::Deferred(Box::new(deferred), OnceLock::new());
        self.functions.insert(name.into(), Arc::new(entry));
    }

    /// The function of this name; none also when it can't be [read](Library::read).
    pub fn get(&self, name: &str) -> Option<&Arc<Function>> {
        self.functions.get(name)?.read().ok()
    }

    /// The function of this name.
    ///
    /// # Errors
    /// When there is none, or it can't be read.
    pub fn read(&self, name: &str) -> Result<&Arc<Function>> {
        let entry = self.functions.get(name);
        entry.ok_or_else(|| Error::graph(format!("there is no function {name:?}")))?.read()
    }

    /// Whether there is a function of this name, be it one that can't be read.
    pub fn contains(&self, name: &str) -> bool {
        self.functions.contains_key(name)
    }

    /// The names of all functions, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.functions.keys().map(String::as_str)
    }

    /// All functions, by name; an error for each that can't be read.
    pub fn iter(&self) -> impl Iterator<Item = Result<&Arc<Function>>> {
        self.functions.values().map(|entry| entry.read())
    }

    /// Tells of every node that is no argument its function and its op, as often as they occur.
    ///
    /// # Errors
    /// When a function isn't read yet, and what it is read from is damaged.
    pub fn ops<'a>(&'a self, mut met: impl FnMut(&'a str, &str)) -> Result<()> {
        for (name, entry) in &self.functions {
            if let Some(f) = entry.known() {
                f.graph.nodes.iter().skip(f.arity).for_each(|node| met(name, &node.op));
            } else if let Entry::Deferred(deferred, _) = &**entry {
                deferred.ops(&mut |op| met(name, op))?;
            }
        }
        Ok(())
    }

    /// How many functions there are.
    pub fn len(&self) -> usize {
        self.functions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// Adds all functions of `other`, replacing those of the same name.
    pub fn extend(&mut self, other: Library) {
        self.functions.extend(other.functions);
    }
}

impl Entry {
    /// The function, if it was read.
    fn known(&self) -> Option<&Arc<Function>> {
        match self {
            Entry::Read(function) => Some(function),
            Entry::Deferred(_, read) => read.get(),
        }
    }

    fn read(&self) -> Result<&Arc<Function>> {
        match self {
            Entry::Read(function) => Ok(function),
            Entry::Deferred(deferred, read) => match read.get() {
                Some(function) => Ok(function),
                // An error isn't kept: it may be the limits of this thread, and another's are wider.
                None => {
                    let function = Arc::new(deferred.read()?);
                    Ok(read.get_or_init(|| function))
                }
            },
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some(function) => function.fmt(f),
            None => f.write_str("not read yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Graph, Node};
    use std::sync::atomic::{AtomicUsize, Ordering};

    static READS: AtomicUsize = AtomicUsize::new(0);

    struct Counted;

    impl Deferred for Counted {
        fn read(&self) -> Result<Function> {
            READS.fetch_add(1, Ordering::Relaxed);
            let nodes = vec![Node { op: "NoOp".into(), ..Node::default() }];
            Ok(Function { name: "f".into(), graph: Graph { nodes }, ..Function::default() })
        }

        fn ops(&self, met: &mut dyn FnMut(&str)) -> Result<()> {
            met("NoOp");
            Ok(())
        }
    }

    struct Damaged;

    impl Deferred for Damaged {
        fn read(&self) -> Result<Function> {
            Err(Error::graph("it ends too early"))
        }

        fn ops(&self, _met: &mut dyn FnMut(&str)) -> Result<()> {
            self.read().map(drop)
        }
    }

    #[test]
    fn a_function_is_read_once_and_only_when_asked_for() {
        let mut library = Library::new();
        library.defer("f", Counted);
        let copy = library.clone();
        let ops = |library: &Library| {
            let mut ops = Vec::new();
            library.ops(|function, op| ops.push(format!("{function}: {op}"))).expect("ops");
            ops
        };
        assert_eq!(ops(&library), ["f: NoOp"]);
        assert!(library.contains("f") && READS.load(Ordering::Relaxed) == 0);
        assert!(library.get("f").is_some() && copy.read("f").is_ok());
        assert_eq!((ops(&copy), READS.load(Ordering::Relaxed)), (vec!["f: NoOp".to_owned()], 1));
    }

    #[test]
    fn a_damaged_function_says_so_each_time() {
        let mut library = Library::new();
        library.defer("f", Damaged);
        for _ in 0..2 {
            assert!(library.get("f").is_none() && library.contains("f"));
            assert!(library.read("f").expect_err("damaged").to_string().contains("too early"));
            assert!(library.ops(|_, _| {}).is_err() && library.iter().all(|f| f.is_err()));
        }
        assert!(library.read("g").expect_err("missing").to_string().contains("no function \"g\""));
    }
}
