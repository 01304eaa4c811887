//! What traces often: constants, arithmetic, shapes, loops and branches, in a line each.

use modelark_tensor::{DType, Element, Tensor};

use crate::{Attr, Builder, Error, FuncRef, Function, Library, Result, Sym};

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($($arg:ident),+) = $op:literal;)*) => {
        /// One op, its attributes left at their defaults or inferred. Each fails when the dtypes don't fit the op.
        impl Builder {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// When the dtypes don't fit the op.
                pub fn $name(&mut self, $($arg: Sym),+) -> Result<Sym> {
                    self.op($op)$(.input($arg))+.one()
                }
            )*
        }
    };
}

calls! {
    /// `a + b`, broadcasting (`tf.add`).
    add(a, b) = "AddV2";
    /// `a - b`, broadcasting (`tf.subtract`).
    sub(a, b) = "Sub";
    /// `a * b`, broadcasting (`tf.multiply`).
    mul(a, b) = "Mul";
    /// `a / b`, broadcasting (`tf.divide` of floats).
    div(a, b) = "RealDiv";
    /// The greater of two, broadcasting (`tf.maximum`).
    maximum(a, b) = "Maximum";
    /// The lesser of two, broadcasting (`tf.minimum`).
    minimum(a, b) = "Minimum";
    /// Whether `a < b`, broadcasting (`tf.less`).
    less(a, b) = "Less";
    /// The product of two matrices (`tf.matmul` of rank 2).
    matmul(a, b) = "MatMul";
    /// `x` with a bias on its last dimension (`tf.nn.bias_add`).
    bias_add(x, bias) = "BiasAdd";
    /// Elements of `a` where `condition`, else of `b`, broadcasting (`tf.where`).
    select(condition, a, b) = "SelectV2";
    /// The same elements under the shape that a tensor holds (`tf.reshape`).
    reshape_to(x, shape) = "Reshape";
    /// The shape as an `int32` tensor (`tf.shape`).
    shape(x) = "Shape";
}

impl Builder {
    /// A constant without dimensions.
    ///
    /// # Errors
    /// As [`Builder::constant`].
    pub fn scalar<T: Element>(&mut self, value: T) -> Result<Sym> {
        self.constant(Tensor::scalar(value))
    }

    /// A constant vector of `int32`, as axes, shapes and permutations are given.
    ///
    /// # Errors
    /// As [`Builder::constant`].
    pub fn ints(&mut self, values: &[i32]) -> Result<Sym> {
        self.constant(Tensor::from_slice(values, [values.len()])?)
    }

    /// The same elements under another shape, of which one extent may be -1 (`tf.reshape`).
    ///
    /// # Errors
    /// As [`Builder::constant`].
    pub fn reshape(&mut self, x: Sym, shape: &[i32]) -> Result<Sym> {
        let shape = self.ints(shape)?;
        self.reshape_to(x, shape)
    }

    /// The dimensions reordered (`tf.transpose`).
    ///
    /// # Errors
    /// As [`Builder::constant`].
    pub fn transpose(&mut self, x: Sym, permutation: &[i32]) -> Result<Sym> {
        let permutation = self.ints(permutation)?;
        self.op("Transpose").input(x).input(permutation).one()
    }

    /// Tensors one after another along an axis (`tf.concat`).
    ///
    /// # Errors
    /// When there are none, or their dtypes differ.
    pub fn concat(&mut self, tensors: &[Sym], axis: i32) -> Result<Sym> {
        let axis = self.scalar(axis)?;
        self.op("ConcatV2").inputs(tensors).input(axis).one()
    }

    /// Another dtype (`tf.cast`); the same tensor when it has that already.
    ///
    /// # Errors
    /// When there is no such cast.
    pub fn cast(&mut self, x: Sym, dtype: DType) -> Result<Sym> {
        if self.dtype(x) == dtype { Ok(x) } else { self.op("Cast").input(x).attr("DstT", dtype).one() }
    }

    /// Element `index` along the first dimension, which goes (`x[index]`).
    ///
    /// # Errors
    /// As [`Builder::constant`].
    pub fn at(&mut self, x: Sym, index: i32) -> Result<Sym> {
        // The end of index -1 would be 0, before it; a shrinking entry doesn't look at its end.
        let (begin, end) = (self.ints(&[index])?, self.ints(&[index.wrapping_add(1)])?);
        let step = self.ints(&[1])?;
        self.op("StridedSlice").inputs(&[x, begin, end, step]).attr("shrink_axis_mask", 1i64).one()
    }

    /// A loop (`tf.while_loop`): while `condition` of `state` holds, `body` makes the next state. Both also get
    /// `captures`, which stay as they are; tensors of this builder that aren't given can't be used inside.
    ///
    /// # Errors
    /// What `condition` and `body` return, or when the body's state has other dtypes than it got.
    pub fn while_loop(
        &mut self,
        name: &str,
        state: &[Sym],
        captures: &[Sym],
        condition: impl FnOnce(&mut Builder, &[Sym], &[Sym]) -> Result<Sym>,
        body: impl FnOnce(&mut Builder, &[Sym], &[Sym]) -> Result<Vec<Sym>>,
    ) -> Result<Vec<Sym>> {
        let all = [state, captures].concat();
        let n = state.len();
        let (condition, s) = self.inner(&format!("{name}_cond"), &all, |b, args| {
            Ok(vec![condition(b, &args[..n], &args[n..])?])
        })?;
        let (body, t) = self.inner(&format!("{name}_body"), &all, |b, args| {
            let mut next = body(b, &args[..n], &args[n..])?;
            let dtypes = |syms: &[Sym]| syms.iter().map(|s| b.dtype(*s)).collect::<Vec<_>>();
            if dtypes(&next) != dtypes(&args[..n]) {
                return Err(Error::graph(format!(
                    "the loop's state is {:?}, its body gives {:?}",
                    dtypes(&args[..n]),
                    dtypes(&next)
                )));
            }
            next.extend_from_slice(&args[n..]);
            Ok(next)
        })?;
        let op = if s || t { "While" } else { "StatelessWhile" };
        let call = self.op(op).inputs(&all).attr("cond", condition).attr("body", body).name(name);
        let mut out = call.attr("output_shapes", Attr::List(Vec::new())).all()?;
        out.truncate(n);
        Ok(out)
    }

    /// A branch (`tf.cond`): what `then` makes of `args` where `condition` holds, else what `otherwise` makes of them.
    ///
    /// # Errors
    /// What `then` and `otherwise` return, or when their results have different dtypes.
    pub fn if_else(
        &mut self,
        name: &str,
        condition: Sym,
        args: &[Sym],
        then: impl FnOnce(&mut Builder, &[Sym]) -> Result<Vec<Sym>>,
        otherwise: impl FnOnce(&mut Builder, &[Sym]) -> Result<Vec<Sym>>,
    ) -> Result<Vec<Sym>> {
        let mut dtypes: [Vec<DType>; 2] = Default::default();
        let [of_then, of_else] = &mut dtypes;
        let (then, s) = self.inner(&format!("{name}_true"), args, |b, args| {
            let results = then(b, args)?;
            of_then.extend(results.iter().map(|r| b.dtype(*r)));
            Ok(results)
        })?;
        let (otherwise, t) = self.inner(&format!("{name}_false"), args, |b, args| {
            let results = otherwise(b, args)?;
            of_else.extend(results.iter().map(|r| b.dtype(*r)));
            Ok(results)
        })?;
        if dtypes[0] != dtypes[1] {
            return Err(Error::graph(format!("the branches give {:?} and {:?}", dtypes[0], dtypes[1])));
        }
        let call =
            self.op(if s || t { "If" } else { "StatelessIf" }).input(condition).inputs(args).name(name);
        let call = call.attr("then_branch", then).attr("else_branch", otherwise);
        call.attr("Tout", dtypes[0].clone()).attr("output_shapes", Attr::List(Vec::new())).all()
    }

    /// Traces a function of arguments like `args`, and says whether it has side effects.
    fn inner(
        &mut self,
        name: &str,
        args: &[Sym],
        trace: impl FnOnce(&mut Builder, &[Sym]) -> Result<Vec<Sym>>,
    ) -> Result<(FuncRef, bool)> {
        // Functions of several traces meet in one library, so the name tells where it belongs.
        let scope = self.scope().replace('/', "_");
        let mut b = Builder::new(format!("{}_{scope}{name}", self.name()));
        let inner = args
            .iter()
            .enumerate()
            .map(|(i, a)| b.arg(&format!("arg_{i}"), self.dtype(*a)))
            .collect::<Result<Vec<_>>>()?;
        let results = trace(&mut b, &inner)?;
        // An argument that is given on as it is passes an identity, as TensorFlow's functions have it.
        let mut named = Vec::with_capacity(results.len());
        for (i, r) in results.into_iter().enumerate() {
            let r = if inner.contains(&r) { b.op("Identity").input(r).one()? } else { r };
            named.push((format!("result_{i}"), r));
        }
        let named: Vec<(&str, Sym)> = named.iter().map(|(n, r)| (n.as_str(), *r)).collect();
        let (function, library): (Function, Library) = b.finish(&named)?;
        let stateful = function.stateful;
        self.library(library);
        Ok((FuncRef::new(self.function(function)), stateful))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Executable, Program, Resources, Value};

    fn run(b: Builder, result: Sym, input: Tensor) -> Tensor {
        let (f, mut library) = b.finish(&[("y", result)]).expect("function");
        let name = f.name.clone();
        library.insert(f);
        let run: Executable = Program::new(library).function(&name).expect("plan");
        let out = run.run(&Resources::new(), [Value::from(input)].into_iter().collect()).expect("run");
        out.into_iter().next().and_then(|v| v.into_tensor().ok()).expect("tensor")
    }

    #[test]
    fn a_loop_doubles_until_it_is_large() {
        let mut b = Builder::new("f");
        let x = b.arg("x", DType::F32).expect("arg");
        let limit = b.scalar(100.0f32).expect("limit");
        let out = b.while_loop(
            "loop",
            &[x],
            &[limit],
            |b, state, captures| b.less(state[0], captures[0]),
            |b, state, _| Ok(vec![b.add(state[0], state[0])?]),
        );
        let y = out.expect("loop")[0];
        assert_eq!(run(b, y, Tensor::scalar(3.0f32)).item::<f32>().expect("f32"), 192.0);
    }

    #[test]
    fn a_branch_is_chosen() {
        for (x, want) in [(1.0f32, 2.0f32), (5.0, 4.0)] {
            let mut b = Builder::new("f");
            let input = b.arg("x", DType::F32).expect("arg");
            let two = b.scalar(2.0f32).expect("two");
            let small = b.less(input, two).expect("less");
            let out = b.if_else(
                "cond",
                small,
                &[input],
                |b, args| {
                    let one = b.scalar(1.0f32)?;
                    Ok(vec![b.add(args[0], one)?])
                },
                |b, args| {
                    let one = b.scalar(1.0f32)?;
                    Ok(vec![b.sub(args[0], one)?])
                },
            );
            let y = out.expect("branches")[0];
            assert_eq!(run(b, y, Tensor::scalar(x)).item::<f32>().expect("f32"), want);
        }
    }

    #[test]
    fn a_loop_whose_body_changes_a_dtype_is_refused() {
        let mut b = Builder::new("f");
        let x = b.arg("x", DType::F32).expect("arg");
        let out = b.while_loop(
            "loop",
            &[x],
            &[],
            |b, s, _| b.less(s[0], s[0]),
            |b, s, _| Ok(vec![b.cast(s[0], DType::F64)?]),
        );
        assert!(out.is_err());
    }
}
