//! What a loaded model owns and its stateful ops act on.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use modelark_tensor::memory::Budget;
use modelark_tensor::{DType, PartialShape, SharedBytes, Tensor};

use crate::{Error, Result};

/// A handle to a variable or to anything else that keeps state; cloning it names the same thing.
#[derive(Clone)]
pub enum Resource {
    /// A variable.
    Variable(Arc<Variable>),
    /// Another kind, such as a table, known to the ops that make and use it.
    Other(Arc<dyn Any + Send + Sync>),
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resource::Variable(v) => v.fmt(f),
            Resource::Other(_) => f.write_str("Resource"),
        }
    }
}

impl Resource {
    /// The variable.
    ///
    /// # Errors
    /// When it is something else.
    pub fn variable(&self) -> Result<&Arc<Variable>> {
        match self {
            Resource::Variable(v) => Ok(v),
            Resource::Other(_) => Err(Error::compute("expected a variable, got another resource")),
        }
    }

    /// The resource as the type that made it.
    ///
    /// # Errors
    /// When it is something else.
    pub fn downcast<T: Any + Send + Sync>(&self, what: &str) -> Result<Arc<T>> {
        match self {
            Resource::Other(any) => any.clone().downcast::<T>().ok(),
            Resource::Variable(_) => None,
        }
        .ok_or_else(|| Error::compute(format!("expected {what}, got another resource")))
    }
}

/// Gives a variable's value when it is first read, so that loading a model reads no tensor that isn't used.
pub type Loader = Box<dyn Fn() -> Result<Tensor> + Send + Sync>;

enum State {
    Empty,
    Lazy(Loader),
    Ready(Tensor),
}

/// A variable: a value that is read, and can be replaced, by any thread.
pub struct Variable {
    name: String,
    dtype: DType,
    shape: PartialShape,
    state: RwLock<State>,
    version: AtomicU64,
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Variable({:?} {} {})", self.name, self.dtype, self.shape)
    }
}

impl Variable {
    /// A variable that has no value yet.
    pub fn new(name: impl Into<String>, dtype: DType, shape: PartialShape) -> Self {
        Variable::in_state(name.into(), dtype, shape, State::Empty)
    }

    /// A variable with this value.
    pub fn with_value(name: impl Into<String>, value: Tensor) -> Self {
        let shape = PartialShape::from(value.shape());
        let dtype = value.dtype();
        Variable::in_state(name.into(), dtype, shape, State::Ready(value.aligned()))
    }

    /// A variable whose value `loader` gives when it is first read.
    pub fn lazy(name: impl Into<String>, dtype: DType, shape: PartialShape, loader: Loader) -> Self {
        Variable::in_state(name.into(), dtype, shape, State::Lazy(loader))
    }

    fn in_state(name: String, dtype: DType, shape: PartialShape, state: State) -> Self {
        Variable { name, dtype, shape, state: RwLock::new(state), version: AtomicU64::new(0) }
    }

    /// The variable's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The dtype of every value it can have.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// What every value's shape must match.
    pub fn shape(&self) -> &PartialShape {
        &self.shape
    }

    /// Whether it has a value.
    pub fn is_initialized(&self) -> bool {
        !matches!(*self.state.read().unwrap_or_else(PoisonError::into_inner), State::Empty)
    }

    /// The value; it shares its elements with the variable until one of the two is written to.
    ///
    /// # Errors
    /// When it has none yet, or it can't be loaded.
    pub fn read(&self) -> Result<Tensor> {
        self.value(Tensor::is_aligned, Tensor::aligned)
    }

    /// The value as it was loaded, whose elements may lie at any address: for who reads it once.
    ///
    /// # Errors
    /// As [`Variable::read`].
    pub(crate) fn read_as_loaded(&self) -> Result<Tensor> {
        self.value(|_| true, |value| value)
    }

    /// The value if it `fits`, or else what `make` makes of it, which stays.
    fn value(&self, fits: fn(&Tensor) -> bool, make: fn(Tensor) -> Tensor) -> Result<Tensor> {
        if let State::Ready(value) = &*self.state.read().unwrap_or_else(PoisonError::into_inner)
            && fits(value)
        {
            return Ok(value.clone());
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // The value outlives the run that happens to read it first.
        let _free = Budget::leave();
        let value = match &*state {
            State::Ready(value) => value.clone(),
            State::Empty => return Err(Error::compute(format!("variable {:?} has no value yet", self.name))),
            State::Lazy(load) => {
                let value = load()?;
                self.check(&value)?;
                value
            }
        };
        let value = make(value);
        *state = State::Ready(value.clone());
        Ok(value)
    }

    /// How often the value was replaced. Whoever keeps what they derived from a value asks before they read it, and again
    /// before they use what they kept.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The value if it is in memory: read before, or assigned.
    pub fn in_memory(&self) -> Option<Tensor> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Ready(value) => Some(value.clone()),
            _ => None,
        }
    }

    /// Replaces the value.
    ///
    /// # Errors
    /// When dtype or shape aren't the variable's.
    pub fn assign(&self, value: Tensor) -> Result<()> {
        self.check(&value)?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        *state = State::Ready(value.aligned());
        self.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Replaces the value by what `change` makes of it; no other change comes between.
    ///
    /// # Errors
    /// What `change` returns, or when dtype or shape of its value aren't the variable's.
    pub fn update(&self, change: impl FnOnce(Tensor) -> Result<Tensor>) -> Result<Tensor> {
        self.read()?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let State::Ready(old) = std::mem::replace(&mut *state, State::Empty) else {
            return Err(Error::compute(format!("variable {:?} has no value yet", self.name)));
        };
        // The value is taken out so that `change` may work in place; it goes back when the change fails.
        let kept = old.clone();
        let result = change(old).and_then(|new| self.check(&new).map(|()| new));
        *state = State::Ready(result.as_ref().unwrap_or(&kept).clone());
        self.version.fetch_add(1, Ordering::Release);
        result
    }

    fn check(&self, value: &Tensor) -> Result<()> {
        if value.dtype() == self.dtype && self.shape.matches(value.shape()) {
            return Ok(());
        }
        Err(Error::compute(format!(
            "variable {:?} holds {} of shape {}, not {} of shape {}",
            self.name,
            self.dtype,
            self.shape,
            value.dtype(),
            PartialShape::from(value.shape())
        )))
    }
}

/// The resources of one loaded model, by kind and shared name, so that two handle ops of one name mean one thing.
///
/// Files that go with a model are here too, by name: an op that initialises a table from a file reads it from here,
/// never from the disk.
#[derive(Debug, Default)]
pub struct Resources {
    named: Mutex<HashMap<(String, String), Resource>>,
    assets: HashMap<String, SharedBytes>,
}

impl Resources {
    /// No resources yet.
    pub fn new() -> Self {
        Resources::default()
    }

    /// Adds a file that goes with the model; graphs know it by this name.
    pub fn add_asset(&mut self, name: impl Into<String>, bytes: SharedBytes) {
        self.assets.insert(name.into(), bytes);
    }

    /// The content of the file of this name.
    pub fn asset(&self, name: &str) -> Option<&SharedBytes> {
        self.assets.get(name)
    }

    /// The resource of this kind (such as `variable`) and name, made by `make` if there is none yet.
    ///
    /// # Errors
    /// What `make` returns.
    pub fn get_or_insert(
        &self,
        kind: &str,
        name: &str,
        make: impl FnOnce() -> Result<Resource>,
    ) -> Result<Resource> {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (kind.to_owned(), name.to_owned());
        if let Some(found) = named.get(&key) {
            return Ok(found.clone());
        }
        let made = make()?;
        named.insert(key, made.clone());
        Ok(made)
    }

    /// Puts a resource in place, replacing one of the same kind and name.
    pub fn insert(&self, kind: &str, name: &str, resource: Resource) {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.insert((kind.to_owned(), name.to_owned()), resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_keeps_its_dtype_and_shape() {
        let v = Variable::new("v", DType::F32, PartialShape::new([None, Some(2)]));
        assert!(!v.is_initialized() && v.read().is_err());
        v.assign(Tensor::zeros(DType::F32, [3, 2]).expect("tensor")).expect("fits");
        assert!(v.assign(Tensor::zeros(DType::F32, [3, 3]).expect("tensor")).is_err());
        assert!(v.assign(Tensor::zeros(DType::F64, [3, 2]).expect("tensor")).is_err());
        assert_eq!(v.read().expect("value").shape(), [3, 2]);
        assert!(v.update(|_| Err(Error::compute("no"))).is_err());
        assert_eq!(v.read().expect("the old value").shape(), [3, 2]);
    }

    #[test]
    fn a_lazy_value_is_loaded_once() {
        let count = Arc::new(Mutex::new(0));
        let counter = count.clone();
        let load: Loader = Box::new(move || {
            *counter.lock().expect("lock") += 1;
            Ok(Tensor::scalar(1.0f32))
        });
        let v = Variable::lazy("v", DType::F32, PartialShape::scalar(), load);
        assert!(v.is_initialized());
        for _ in 0..2 {
            assert_eq!(v.read().and_then(|t| Ok(t.item::<f32>()?)).expect("value"), 1.0);
        }
        assert_eq!(*count.lock().expect("lock"), 1);
    }
}
