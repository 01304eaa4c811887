//! The classes of layers: Keras's own, and those that a user adds.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use modelark_artifact::{Error, ErrorKind, Result, nearest};

use crate::former::Former;
use crate::{Layer, layers};

type Constructor = Arc<dyn Fn() -> Box<dyn Layer> + Send + Sync>;

/// The classes of layers by name. A registry knows Keras's own; a user adds layers of their own:
///
/// ```
/// use modelark_nn::{Call, Fields, Layer, Registry, layer::inputs, Result, Sym};
///
/// #[derive(Debug, Clone, Default)]
/// struct Double;
///
/// impl Layer for Double {
///     fn class_name(&self) -> &str {
///         "Double"
///     }
///
///     fn visit(&mut self, _: &mut Fields<'_>) {}
///
///     fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
///         let [x] = inputs(given)?;
///         Ok(vec![call.apply("AddV2", &[x, x])?])
///     }
/// }
///
/// let mut registry = Registry::default();
/// registry.register("Custom>Double", Double::default);
/// assert!(registry.knows("Double"));
/// ```
#[derive(Clone, Default)]
pub struct Registry {
    custom: HashMap<String, Constructor>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.custom.keys()).finish()
    }
}

static BUILT_IN: LazyLock<HashMap<&'static str, &'static layers::Entry>> =
    LazyLock::new(|| layers::entries().flat_map(|e| e.names.iter().map(move |&n| (n, e))).collect());

impl Registry {
    /// Adds a class under the name that a file has for it: the class's name, or `Package>Name` for one that Python
    /// registered. A class of the user's own goes before one of Keras's of the same name.
    pub fn register<L: Layer>(
        &mut self,
        name: &str,
        new: impl Fn() -> L + Send + Sync + 'static,
    ) -> &mut Self {
        self.custom.insert(name.to_owned(), Arc::new(move || Box::new(new())));
        self
    }

    /// Whether there is a class of this name, with or without its package.
    pub fn knows(&self, class: &str) -> bool {
        self.find(class, None).is_some()
    }

    /// The names of all classes, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            BUILT_IN.keys().copied().chain(self.custom.keys().map(String::as_str)).collect();
        names.sort_unstable();
        names
    }

    /// The layer, and whether its class isn't Keras's own.
    fn find(&self, class: &str, registered: Option<&str>) -> Option<(Box<dyn Layer>, bool)> {
        let bare = |name: &str| name.rsplit('>').next().unwrap_or_default().to_owned();
        let custom = registered
            .and_then(|name| self.custom.get(name))
            .or_else(|| self.custom.get(class))
            .or_else(|| self.custom.iter().find(|(name, _)| bare(name) == bare(class)).map(|(_, new)| new));
        if let Some(new) = custom {
            return Some((new(), true));
        }
        // Some classes of Keras's own are registered in a package.
        let packaged = [registered.unwrap_or_default(), class].into_iter().filter(|n| n.contains('>'));
        if let Some(entry) = packaged.into_iter().find_map(|name| BUILT_IN.get(name)) {
            return Some(((entry.new)(), false));
        }
        // A class of Keras's name in somebody's package is another class.
        if registered.is_some_and(|r| r.contains('>')) || class.contains('>') {
            return None;
        }
        BUILT_IN.get(class).map(|entry| ((entry.new)(), false))
    }

    /// What Keras 1 called the options of one of Keras's own classes.
    pub(crate) fn former(&self, class: &str) -> Option<&'static [Former]> {
        BUILT_IN.get(class).map(|entry| entry.former)
    }

    /// A layer of this class, as its constructor makes it, and whether the class isn't Keras's own.
    pub(crate) fn make(
        &self,
        class: &str,
        registered: Option<&str>,
        module: Option<&str>,
    ) -> Result<(Box<dyn Layer>, bool)> {
        // Ops in a graph of Keras 3 have classes of their own, some named as layers are.
        if let Some(module) =
            module.filter(|m| m.starts_with("keras.src.ops.") || m.starts_with("keras.ops."))
        {
            return Ok((Box::new(layers::Operation::of_keras3(module, class)), false));
        }
        if let Some(found) = self.find(class, registered) {
            return Ok(found);
        }
        let shown = registered.filter(|r| r.contains('>')).unwrap_or(class);
        let from = module.filter(|m| !m.is_empty()).map(|m| format!(" (of {m})")).unwrap_or_default();
        let near = nearest(class, self.names()).map(|n| format!("{n} Or ")).unwrap_or_default();
        Err(Error::new(ErrorKind::UnknownClass, format!("there is no layer class {shown:?}{from}")).help(format!(
            "{near}implement `Layer` for a type of your own and add it with `registry.register({shown:?}, ..)`"
        )))
    }
}

/// The entry of one of Keras's own classes.
pub(crate) fn built_in(class: &str) -> Option<&'static layers::Entry> {
    BUILT_IN.get(class).copied()
}

/// Whether a layer's type is the one that Modelark has for a class of Keras's own.
pub(crate) fn is_built_in(layer: &dyn Layer) -> bool {
    BUILT_IN.get(layer.class_name()).is_some_and(|entry| {
        let own = (entry.new)();
        (&*own as &dyn Any).type_id() == (layer as &dyn Any).type_id()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_of_one_class() {
        let count: usize = layers::entries().map(|e| e.names.len()).sum();
        assert_eq!(count, BUILT_IN.len());
        for entry in layers::entries() {
            assert_eq!((entry.new)().class_name(), entry.names[0]);
        }
    }

    #[test]
    fn an_unknown_class_says_how_to_add_it() {
        let registry = Registry::default();
        let error = registry.make("Dens", None, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownClass);
        assert!(error.to_string().contains("\"Dense\""), "{error}");
        let error = registry.make("Dense", Some("Mine>Dense"), Some("mine.layers")).unwrap_err().to_string();
        assert!(error.contains("Mine>Dense") && error.contains("mine.layers"), "{error}");
    }
}
