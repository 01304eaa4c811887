//! `XlaCallModule`: a StableHLO module in a TensorFlow graph, as JAX exports it.

use std::sync::{Arc, PoisonError, RwLock};

use modelark_stablehlo::Module;

use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Program, Value, kernel};
use crate::hlo::{self, Given, Surroundings};
use crate::tensor::Tensor;
use crate::{Attr, Error, FuncRef, Node, Result};

/// The op that holds a StableHLO module.
pub const NAME: &str = "XlaCallModule";

/// Versions of the op that say what this one does: earlier ones hold text, or ask what no graph has.
const VERSIONS: std::ops::RangeInclusive<i64> = 4..=10;

/// The same op as passes leave it: inputs may be handles of variables in place of their values.
pub(crate) const MODULE_OF_VARIABLES: &str = "ModelarkXlaCallModule";

/// For so many sets of shapes a lowered module is kept.
const MOST_KEPT: usize = 8;

/// A module lowered for such inputs.
struct Lowered {
    given: Vec<Given>,
    program: Program,
}

fn read(a: &NodeAttrs<'_>) -> Result<Module> {
    let version = a.int("version")?;
    if !VERSIONS.contains(&version) {
        return Err(Error::unsupported(format!(
            "version {version} of XlaCallModule isn't run, only {} to {}; export the model anew",
            VERSIONS.start(),
            VERSIONS.end()
        )));
    }
    let Some(Attr::String(bytes)) = a.get("module") else {
        return Err(Error::graph("attribute \"module\" must be the bytes of a module"));
    };
    Module::read(bytes).map_err(|e| Error::graph(format!("the StableHLO module can't be read: {e}")))
}

/// What a node's module needs and isn't here; also, in one line, why it can't be read.
pub(super) fn missing(node: &Node) -> Vec<String> {
    let Ok(signature) = super::signature(&node.op) else { return Vec::new() };
    let a = &NodeAttrs::of(signature, node);
    match read(a) {
        // Which parts are another platform's is known only once it is lowered.
        Ok(_) if texts(a, "platforms").len() > 1 => Vec::new(),
        Ok(module) => hlo::missing(&module).into_iter().map(|name| format!("StableHLO's {name}")).collect(),
        Err(e) => vec![format!("{NAME}: {e}")],
    }
}

/// What there is to tell of a StableHLO module that a node holds.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldModule {
    /// What wrote it, such as `StableHLO_v1.8.0`.
    pub producer: String,
    /// How many functions it has.
    pub functions: usize,
    /// How many operations those have.
    pub operations: usize,
}

/// The module that a node of `XlaCallModule` holds; `None` for other nodes, and where it can't be read.
pub fn held_module(node: &Node) -> Option<HeldModule> {
    let signature = super::signature(&node.op).ok().filter(|_| node.op == NAME)?;
    let module = read(&NodeAttrs::of(signature, node)).ok()?;
    let mut operations = 0;
    module.ops(|_, _| operations += 1);
    Some(HeldModule { producer: module.producer, functions: module.functions.len(), operations })
}

fn texts<'a>(a: &NodeAttrs<'a>, name: &str) -> Vec<&'a str> {
    let list = a.get(name).and_then(Attr::as_list).unwrap_or_default();
    list.iter().filter_map(Attr::as_str).collect()
}

fn call(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let module = read(a)?;
    let platforms = texts(a, "platforms");
    let platform = platforms.iter().position(|p| p.eq_ignore_ascii_case("cpu"));
    if platform.is_none() && !platforms.is_empty() && !texts(a, "disabled_checks").contains(&"platform") {
        return Err(Error::unsupported(format!("the module is for {}, not for a CPU", platforms.join(", "))));
    }
    if !texts(a, "dim_args_spec").is_empty() {
        return Err(Error::unsupported("the module takes extents as arguments, as before version 5; export the model anew"));
    }
    let functions = a.get("function_list").and_then(Attr::as_list).unwrap_or_default();
    let around = Surroundings {
        platform: platform.filter(|_| platforms.len() > 1).and_then(|p| i32::try_from(p).ok()),
        functions: functions.iter().filter_map(|f| f.as_func().cloned()).collect(),
    };
    let kept: RwLock<Vec<Arc<Lowered>>> = RwLock::default();
    let main = FuncRef::new(hlo::MAIN);
    Ok(kernel(move |context, inputs| {
        let given = inputs.iter().map(given).collect::<Result<Vec<_>>>()?;
        let known = kept.read().unwrap_or_else(PoisonError::into_inner).iter().find(|l| l.given == given).cloned();
        let lowered = match known {
            Some(lowered) => lowered,
            None => {
                let library = hlo::lower(&module, &around, &given)?;
                let lowered = Arc::new(Lowered { given, program: Program::new(library) });
                let mut all = kept.write().unwrap_or_else(PoisonError::into_inner);
                if all.len() == MOST_KEPT {
                    all.remove(0);
                }
                all.push(lowered.clone());
                lowered
            }
        };
        context.call_in(&lowered.program, &main, inputs)
    }))
}

/// What is known of an input before the module is lowered.
fn given(v: &Value) -> Result<Given> {
    let of = |t: &Tensor, variable| Given { dtype: t.dtype(), shape: t.shape().into(), variable };
    match v {
        Value::Resource(handle) => Ok(of(&handle.variable()?.read()?, true)),
        value => Ok(of(value.tensor()?, false)),
    }
}

pub(super) const OPS: &[Op] = &[Op::new(
    "XlaCallModule(args: [Tin]) -> (output: [Tout]); version: int; module: string; Sout: list(shape); Tout: list(type); Tin: list(type); dim_args_spec: list(string) = []; platforms: list(string) = []; function_list: list(func) = []; has_token_input_output: bool = false; disabled_checks: list(string) = []; use_shardy_partitioner: bool = false; stateful",
    call,
), Op::new(
    "ModelarkXlaCallModule(args: [Tin]) -> (output: [Tout]); version: int; module: string; Sout: list(shape); Tout: list(type); Tin: list(type); dim_args_spec: list(string) = []; platforms: list(string) = []; function_list: list(func) = []; has_token_input_output: bool = false; disabled_checks: list(string) = []; use_shardy_partitioner: bool = false; stateful",
    call,
)];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::{Resource, Resources, Variable};
    use crate::tensor::DType;
    use crate::{Builder, ErrorKind};

    /// `tanh(x @ w + w[0])`, of any number of rows.
    const DENSE: &[u8] = include_bytes!("../../../../tests/fixtures/stablehlo/poly_dense.mlirbc");

    fn program(module: &[u8], platforms: Vec<&str>, passes: bool) -> Result<Program> {
        let mut b = Builder::new("f");
        let x = b.arg("x", DType::F32)?;
        let handle = b.arg("w", DType::Resource)?;
        let w = b.op("ReadVariableOp").input(handle).attr("dtype", DType::F32).one()?;
        let call = b.op(NAME).inputs(&[x, w]).attr("version", 9i64).attr("module", Attr::String(module.to_vec()));
        let call = call.attr("platforms", platforms).attr("Tout", vec![DType::F32]);
        let y = call.attr("Sout", Attr::List(Vec::new())).one()?;
        let (f, mut library) = b.finish(&[("y", y)])?;
        library.insert(f);
        Ok(Program::with_passes(library, passes))
    }

    fn run(program: &Program, rows: usize, columns: usize, w: &Arc<Variable>) -> Result<Tensor> {
        let x = Tensor::full(0.5f32, [rows, columns])?;
        let inputs = [x.into(), Resource::Variable(w.clone()).into()].into_iter().collect();
        let out = program.function("f")?.run(&Resources::new(), inputs)?;
        out[0].tensor().cloned()
    }

    #[test]
    fn a_module_takes_any_number_of_rows_and_sees_its_variables() {
        for passes in [false, true] {
            let program = program(DENSE, vec!["CPU"], passes).expect("program");
            let w = Arc::new(Variable::with_value("w", Tensor::full(0.1f32, [4, 5]).expect("tensor")));
            for rows in [1, 3, 1] {
                let y = run(&program, rows, 4, &w).unwrap_or_else(|e| panic!("{e}"));
                assert_eq!(y.shape(), [rows, 5]);
                let first = y.as_slice::<f32>().expect("f32")[0];
                assert!((first - 0.3f32.tanh()).abs() < 1e-6, "{first}");
            }
            w.assign(Tensor::full(0.2f32, [4, 5]).expect("tensor")).expect("assign");
            let y = run(&program, 1, 4, &w).expect("run");
            assert!((y.as_slice::<f32>().expect("f32")[0] - 0.6f32.tanh()).abs() < 1e-6);
            assert!(run(&program, 2, 7, &w).is_err(), "the module takes four columns");
        }
        let program = program(DENSE, vec!["CPU"], true).expect("program");
        assert!(program.function("f").expect("plan").ops().contains(&MODULE_OF_VARIABLES));
    }

    #[test]
    fn what_cannot_run_is_named_before_it_runs() {
        let error = |module: &[u8], platforms: Vec<&str>| {
            program(module, platforms, true).and_then(|p| p.function("f").map(drop)).expect_err("refused")
        };
        let damaged = error(&DENSE[..100], vec!["CPU"]).to_string();
        assert!(damaged.contains("XlaCallModule") && damaged.contains("byte"), "{damaged}");
        let elsewhere = error(DENSE, vec!["TPU"]);
        assert_eq!(elsewhere.kind(), ErrorKind::Unsupported);
        assert!(elsewhere.to_string().contains("TPU"), "{elsewhere}");
        let at = DENSE.windows(7).position(|w| w == b"tanh_v2").expect("the name");
        let mut other = DENSE.to_vec();
        other[at..at + 4].copy_from_slice(b"tenh");
        let named = error(&other, vec!["CPU"]).to_string();
        assert!(named.contains("StableHLO's tenh"), "{named}");
    }
}
