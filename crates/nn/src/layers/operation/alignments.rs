//! Sequences whose steps aren't assigned to labels: their loss, and the labels that they most likely stand for (CTC).

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};

use super::arguments::Args;
use super::table::Form::{Many, One};
use super::table::{Row, row};

/// The class that stands for no label, counted from the end where it is negative.
fn blank(args: &Args<'_, '_>, name: &str, classes: usize) -> Result<i64> {
    crate::config::resolve_axis(args.int(name).unwrap_or(0), classes).map(|b| b as i64)
}

/// Scores with the class of no label last, as TensorFlow's kernels have it.
fn with_blank_last(args: &mut Args<'_, '_>, scores: Sym, blank: i64) -> Result<Sym> {
    let part = |args: &mut Args<'_, '_>, begin, end| {
        args.call.slice(scores, &[(None, None, 1), (None, None, 1), (begin, end, 1)])
    };
    let before = part(args, None, Some(blank))?;
    let own = part(args, Some(blank), Some(blank + 1))?;
    let after = part(args, Some(blank + 1), None)?;
    args.call.concat(&[before, after, own], 2)
}

/// The loss of each sequence (Keras: `ctc_loss`; TensorFlow: `tf.nn.ctc_loss` with dense labels).
fn loss(args: &mut Args<'_, '_>) -> Result<Sym> {
    let mut scores = args.float_tensor("output")?;
    let blank = blank(args, "mask_index", args.call.spec(scores).known(-1)?)?;
    let own = args.call.dtype(scores);
    scores = args.call.cast(scores, DType::F32)?;
    let (labels, count) = (args.tensor("target")?, args.tensor("target_length")?);
    let (labels, count) = (args.call.cast(labels, DType::I32)?, args.call.cast(count, DType::I32)?);
    let steps = args.tensor("output_length")?;
    let steps = args.call.cast(steps, DType::I32)?;
    // What comes after a sequence's labels pads them.
    let (zero, one, last) = (args.call.int(0)?, args.call.int(1)?, args.call.int(-1)?);
    let most = args.call.extent(labels, 1)?;
    let places = args.call.apply("Range", &[zero, most, one])?;
    let count = args.call.apply("ExpandDims", &[count, last])?;
    let counts = args.call.apply("Less", &[places, count])?;
    let indices = args.call.apply("Where", &[counts])?;
    let labels = args.call.apply("GatherNd", &[labels, indices])?;
    let above = {
        let blank = args.call.int(blank)?;
        let above = args.call.apply("Greater", &[labels, blank])?;
        args.call.cast(above, DType::I32)?
    };
    let labels = args.call.apply("Sub", &[labels, above])?;
    let scores = with_blank_last(args, scores, blank)?;
    let scores = args.call.transpose(scores, &[1, 0, 2])?;
    let made = args.call.op("CTCLoss").inputs(&[scores, indices, labels, steps]).all()?;
    let [loss, _] = crate::layer::inputs(&made)?;
    args.call.cast(loss, own)
}

/// The likeliest labels of each sequence, and how likely they are (Keras: `ctc_decode`).
fn decoded(args: &mut Args<'_, '_>) -> Result<Vec<Sym>> {
    let scores = args.float_tensor("inputs")?;
    let classes = args.call.spec(scores).known(-1)?;
    let steps = args.tensor("sequence_lengths")?;
    let steps = args.call.cast(steps, DType::I32)?;
    let shape = args.call.op("Shape").input(scores).attr("out_type", DType::I64).one()?;
    let shape = args.call.slice(shape, &[(None, Some(2), 1)])?;
    let greedy = match args.text("strategy").as_deref() {
        None | Some("greedy") => true,
        Some("beam_search") => false,
        Some(other) => return Err(Error::unsupported(format!("there is no strategy {other:?}"))),
    };
    let none = args.named.iter().any(|(n, a)| *n == "mask_index" && matches!(a, crate::Argument::Value(v) if v.is_null()));
    let blank = if none { classes as i64 - 1 } else { blank(args, "mask_index", classes)? };
    let (paths, made) = if greedy {
        let scores = args.call.transpose(scores, &[1, 0, 2])?;
        let merges = args.find("merge_repeated").is_none() || args.flag("merge_repeated");
        let op = args.call.op("CTCGreedyDecoder").inputs(&[scores, steps]).attr("merge_repeated", merges);
        (1, op.attr("blank_index", blank).all()?)
    } else {
        let scores = with_blank_last(args, scores, blank)?;
        let scores = args.call.transpose(scores, &[1, 0, 2])?;
        let (width, paths) = (args.int("beam_width").unwrap_or(100), args.int("top_paths").unwrap_or(1));
        let op = args.call.op("CTCBeamSearchDecoder").inputs(&[scores, steps]).attr("merge_repeated", false);
        (usize::try_from(paths).unwrap_or(0), op.attr("beam_width", width).attr("top_paths", paths).all()?)
    };
    let wrong = || Error::mismatch("the decoder gives indices, values and shapes of each path, and scores");
    let mut dense = Vec::with_capacity(paths);
    for path in 0..paths {
        let (Some(&indices), Some(&values)) = (made.get(path), made.get(paths + path)) else { return Err(wrong()) };
        let nothing = args.call.scalar(-1.0, values)?;
        dense.push(args.call.apply("SparseToDense", &[indices, shape, values, nothing])?);
    }
    let all = args.call.op("Pack").inputs(&dense).attr("axis", 0i64).one()?;
    let mut all = args.call.cast(all, DType::I32)?;
    if !greedy && !none {
        let (blank, one) = (args.call.int(blank)?, args.call.int(1)?);
        let (above, next) = (args.call.apply("GreaterEqual", &[all, blank])?, args.call.apply("AddV2", &[all, one])?);
        all = args.call.apply("SelectV2", &[above, next, all])?;
    }
    Ok(vec![all, *made.last().ok_or_else(wrong)?])
}

pub(super) const ROWS: &[Row] = &[
    row("nn.CTCLoss(target output target_length output_length; mask_index)", One(loss)),
    row("nn.CTCDecode(inputs sequence_lengths; strategy beam_width top_paths merge_repeated mask_index)", Many(decoded)),
];
