//! The builder that traces: calls of ops become nodes of a function.

use modelark_tensor::{DType, Tensor};

use crate::{
    ARG, Attr, Attrs, Error, Function, FunctionResult, Graph, Library, Names, Node, Output, Result, ops,
};

/// A tensor of a graph that is being traced: one output of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sym(Output);

/// Builds a [`Function`] node by node, checking each against its op's signature.
///
/// ```
/// use modelark_graph::{Builder, tensor::{DType, Tensor}};
///
/// let mut b = Builder::new("double");
/// let x = b.arg("x", DType::F32)?;
/// let two = b.constant(Tensor::scalar(2.0f32))?;
/// let y = b.op("Identity").input(x).one()?;
/// # let _ = two;
/// let (function, _) = b.finish(&[("y", y)])?;
/// assert_eq!(function.args().len(), 1);
/// # Ok::<(), modelark_graph::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Builder {
    name: String,
    graph: Graph,
    arity: usize,
    dtypes: Vec<Vec<DType>>,
    library: Library,
    scope: String,
    taken: Names,
    /// Side effects in the order they were traced; each waits for the one before.
    last_effect: Option<usize>,
}

impl Builder {
    /// Begins a function of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Builder { name: name.into(), ..Builder::default() }
    }

    /// Adds an argument. All arguments come before any op.
    ///
    /// # Errors
    /// When ops were added already.
    pub fn arg(&mut self, name: &str, dtype: DType) -> Result<Sym> {
        if self.graph.nodes.len() != self.arity {
            return Err(Error::graph(format!("argument {name:?} of {:?} comes after its ops", self.name)));
        }
        let name = self.unique(name);
        self.arity += 1;
        let attrs = Attrs::from([("T".to_owned(), Attr::Type(dtype))]);
        let node = self.push(Node { name, op: ARG.to_owned(), attrs, ..Node::default() }, vec![dtype]);
        Ok(Sym(Output::new(node, 0)))
    }

    /// Adds a constant.
    ///
    /// # Errors
    /// Never for a tensor that exists; kept so that it reads as the other calls.
    pub fn constant(&mut self, value: Tensor) -> Result<Sym> {
        let dtype = value.dtype();
        self.op("Const").attr("value", value).attr("dtype", dtype).one()
    }

    /// Begins a call of an op.
    pub fn op<'b>(&'b mut self, op: &str) -> OpCall<'b> {
        OpCall {
            builder: self,
            op: op.to_owned(),
            name: None,
            inputs: Vec::new(),
            controls: Vec::new(),
            attrs: Attrs::new(),
        }
    }

    /// Puts the names of nodes made by `body` under `scope`.
    ///
    /// # Errors
    /// What `body` returns.
    pub fn scoped<T>(&mut self, scope: &str, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let outer = self.scope.clone();
        self.scope = format!("{outer}{scope}/");
        let result = body(self);
        self.scope = outer;
        result
    }

    /// The dtype of a tensor that is being traced.
    pub fn dtype(&self, sym: Sym) -> DType {
        // A `Sym` comes from this builder alone; one of another builder is a mistake in the caller's code.
        self.dtypes[sym.0.node][sym.0.index]
    }

    /// Adds a function that nodes of this one call by name, and gives back its name, made unique.
    pub fn function(&mut self, mut function: Function) -> String {
        let base = function.name.clone();
        let mut count = 0;
        while self.library.contains(&function.name) {
            count += 1;
            function.name = format!("{base}_{count}");
        }
        self.library.insert(function).name.clone()
    }

    /// Adds functions that the nodes of this one call, under the names they have.
    pub fn library(&mut self, library: Library) {
        self.library.extend(library);
    }

    /// Ends the function with these results, and gives back it and the functions that it calls.
    ///
    /// # Errors
    /// Never for tensors of this builder; kept for checks to come.
    pub fn finish(self, results: &[(&str, Sym)]) -> Result<(Function, Library)> {
        let results = results
            .iter()
            .map(|(name, sym)| FunctionResult {
                name: (*name).to_owned(),
                dtype: self.dtype(*sym),
                output: sym.0,
            })
            .collect();
        let control_results: Vec<(String, usize)> =
            self.last_effect.map(|n| (self.graph.nodes[n].name.replace('/', "_"), n)).into_iter().collect();
        let function = Function {
            name: self.name,
            graph: self.graph,
            arity: self.arity,
            results,
            stateful: !control_results.is_empty(),
            control_results,
            attrs: Attrs::new(),
            arg_attrs: Default::default(),
        };
        Ok((function, self.library))
    }

    /// The function's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The scope that names are put under now, with its last slash.
    pub(crate) fn scope(&self) -> &str {
        &self.scope
    }

    fn unique(&mut self, name: &str) -> String {
        self.taken.unique(format!("{}{name}", self.scope))
    }

    fn push(&mut self, node: Node, dtypes: Vec<DType>) -> usize {
        self.graph.nodes.push(node);
        self.dtypes.push(dtypes);
        self.graph.nodes.len() - 1
    }
}

/// A call of an op that is being put together.
#[derive(Debug)]
#[must_use = "a call is made by `one`, `all` or `run`"]
pub struct OpCall<'b> {
    builder: &'b mut Builder,
    op: String,
    name: Option<String>,
    inputs: Vec<Sym>,
    controls: Vec<usize>,
    attrs: Attrs,
}

impl OpCall<'_> {
    /// Adds an input.
    pub fn input(mut self, input: Sym) -> Self {
        self.inputs.push(input);
        self
    }

    /// Adds inputs.
    pub fn inputs(mut self, inputs: &[Sym]) -> Self {
        self.inputs.extend_from_slice(inputs);
        self
    }

    /// Sets an attribute. Those that follow from the inputs needn't be set.
    pub fn attr(mut self, name: &str, value: impl Into<Attr>) -> Self {
        self.attrs.insert(name.to_owned(), value.into());
        self
    }

    /// Makes the node run after the one that gives `sym`.
    pub fn after(mut self, sym: Sym) -> Self {
        self.controls.push(sym.0.node);
        self
    }

    /// Names the node; by default it is named as its op.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Makes the call, for an op with one output.
    ///
    /// # Errors
    /// When there is no such op, the inputs or attributes don't fit it, or it hasn't one output.
    pub fn one(self) -> Result<Sym> {
        let op = self.op.clone();
        match *self.all()? {
            [one] => Ok(one),
            ref all => Err(Error::graph(format!("{op} has {} outputs, not one", all.len()))),
        }
    }

    /// Makes the call, for an op without outputs.
    ///
    /// # Errors
    /// As [`OpCall::all`].
    pub fn run(self) -> Result<()> {
        self.all().map(drop)
    }

    /// Makes the call and gives back all outputs, flat.
    ///
    /// # Errors
    /// When there is no such op, or the inputs or attributes don't fit it.
    pub fn all(mut self) -> Result<Vec<Sym>> {
        let b = self.builder;
        let signature = ops::signature(&self.op)?;
        let inputs: Vec<DType> = self.inputs.iter().map(|s| b.dtype(*s)).collect();
        signature.infer_attrs(&inputs, &mut self.attrs)?;
        let dtypes = signature.output_dtypes(&self.attrs)?;
        let name = b.unique(self.name.as_deref().unwrap_or(&self.op));
        // Only side effects are ordered: a read of a variable waits for an assignment, not for another read.
        let effect = signature.stateful && signature.outputs.is_empty();
        if signature.stateful {
            self.controls.extend(b.last_effect);
        }
        self.controls.dedup();
        let node = Node {
            name,
            op: self.op,
            inputs: self.inputs.iter().map(|s| s.0).collect(),
            controls: self.controls,
            attrs: self.attrs,
            device: String::new(),
        };
        let count = dtypes.len();
        let node = b.push(node, dtypes);
        if effect {
            b.last_effect = Some(node);
        }
        Ok((0..count).map(|index| Sym(Output::new(node, index))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_become_nodes_with_inferred_attributes() {
        let mut b = Builder::new("f");
        let x = b.arg("x", DType::F32).expect("arg");
        let y = b.scoped("dense", |b| b.op("Identity").input(x).one()).expect("y");
        let z = b.op("Identity").input(y).name("x").one().expect("z");
        assert_eq!(b.dtype(z), DType::F32);
        assert!(b.op("NoSuchOp").one().is_err());
        assert!(b.op("Identity").one().is_err());
        assert!(b.arg("late", DType::F32).is_err());
        let (f, library) = b.finish(&[("out", z)]).expect("function");
        let names: Vec<&str> = f.graph.nodes.iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["x", "dense/Identity", "x_1"]);
        assert_eq!(f.graph.nodes[1].attrs["T"], Attr::Type(DType::F32));
        assert_eq!((f.arity, f.results.len(), library.len()), (1, 1, 0));
        assert_eq!(f.arg_dtype(0), Some(DType::F32));
    }
}
