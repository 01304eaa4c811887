//! What computes at a node.

use smallvec::SmallVec;

use super::{Program, Resources, Value};
use crate::{Error, FuncRef, Result};

/// The values at a node's inputs or outputs, flat.
pub type Values = SmallVec<[Value; 4]>;

/// What a kernel may use beside its inputs.
pub trait Context {
    /// The resources of the model that runs.
    fn resources(&self) -> &Resources;

    /// The name of the node that runs.
    fn node(&self) -> &str;

    /// Calls a function of the graph's library.
    ///
    /// # Errors
    /// When there is no such function, or it fails.
    fn call(&mut self, function: &FuncRef, args: Values) -> Result<Values>;

    /// Calls a function of another program, within the same run; what that one's library lacks, this one's has.
    ///
    /// # Errors
    /// When there is no such function, it fails, or nothing can be called here.
    fn call_in(&mut self, _program: &Program, function: &FuncRef, _args: Values) -> Result<Values> {
        Err(Error::graph(format!("function {:?} can't be called here", function.name)))
    }

    /// Hands over what a graph prints: `stderr`, `stdout` or whatever else `tf.print` was told, and the text.
    fn print(&self, _stream: &str, _text: &[u8]) {}

    /// Whether what derives from variables is made for this run alone, and so not worth much work.
    fn once(&self) -> bool {
        false
    }

    /// To be asked now and then by whatever runs long.
    ///
    /// # Errors
    /// When the run was cancelled or is over its limits.
    fn check(&self) -> Result<()>;
}

/// Computes one op for one node. Attributes are read once, when the kernel is made.
pub trait Kernel: Send + Sync {
    /// From inputs to outputs. A tensor that arrives as its last holder may be worked on in place.
    ///
    /// # Errors
    /// When the inputs aren't what the op takes.
    fn run(&self, context: &mut dyn Context, inputs: Values) -> Result<Values>;
}

impl<F: Fn(&mut dyn Context, Values) -> Result<Values> + Send + Sync> Kernel for F {
    fn run(&self, context: &mut dyn Context, inputs: Values) -> Result<Values> {
        self(context, inputs)
    }
}

/// A kernel from a closure.
pub fn kernel(
    run: impl Fn(&mut dyn Context, Values) -> Result<Values> + Send + Sync + 'static,
) -> Box<dyn Kernel> {
    Box::new(run)
}
