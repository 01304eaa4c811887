//! Ops that are given functions of Python's, which no config holds: they are known by name, and refused.

use modelark_artifact::{Error, Result};
use modelark_artifact::graph::Sym;

use super::arguments::Args;
use super::table::Form::Many;
use super::table::{Row, row};

fn refused(_: &mut Args<'_, '_>) -> Result<Vec<Sym>> {
    Err(Error::unsupported("it calls a function of Python's, of which the file has at most the name")
        .help("save the model as a SavedModel, whose graphs hold what the function computes; or build it with a layer of your own"))
}

pub(super) const ROWS: &[Row] = &[
    row("core.Map(f xs)", Many(refused)),
    row("core.Scan(f init xs; length reverse unroll)", Many(refused)),
    row("core.AssociativeScan(f elems; reverse axis)", Many(refused)),
    row("core.Switch(index branches operands)", Many(refused)),
    row("core.Cond(pred true_fn false_fn)", Many(refused)),
    row("core.WhileLoop(loop_vars; cond body maximum_iterations)", Many(refused)),
    row("core.ForiLoop(init_val; lower upper body_fun)", Many(refused)),
    row("core.VectorizedMap(elements; function)", Many(refused)),
    row("linalg.JVP(fun primals tangents; has_aux)", Many(refused)),
    row("= map_fn(fn elems:elems)", Many(refused)),
    row("= while_loop(cond body loop_vars)", Many(refused)),
    row("= vectorized_map(fn elems)", Many(refused)),
    row("= py_function(func inp:elems Tout)", Many(refused)),
    row("= numpy_function(func inp:elems Tout)", Many(refused)),
];
