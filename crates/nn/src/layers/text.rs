//! TextVectorization.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Dialect, Error, Result};
use serde_json::{Value, json};

use super::Entry;
use super::categories::encoded;
use super::lookup::Vocabulary;
use crate::config::{Fields, numbers};
use crate::layer::inputs;
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[Entry::of::<TextVectorization>(&["TextVectorization"])];

/// The characters that Keras strips.
const PUNCTUATION: &str = r##"[!"#$%&()\*\+,-\./:;<=>?@\[\\\]^_`{|}~\']"##;

/// Texts to the indices of their words, or to vectors of them (Keras: `TextVectorization`).
#[derive(Debug, Clone, PartialEq)]
pub struct TextVectorization {
    standardize: Value,
    split: Value,
    ngrams: Value,
    output_sequence_length: Option<usize>,
    ragged: bool,
    vocabulary: Vocabulary,
}

impl Default for TextVectorization {
    fn default() -> Self {
        TextVectorization {
            standardize: json!("lower_and_strip_punctuation"),
            split: json!("whitespace"),
            ngrams: Value::Null,
            output_sequence_length: None,
            ragged: false,
            vocabulary: Vocabulary::new(DType::String, json!("[UNK]")),
        }
    }
}

impl TextVectorization {
    /// A layer of these words.
    pub fn new<T: Into<Value>>(words: impl IntoIterator<Item = T>) -> Self {
        let mut layer = TextVectorization::default();
        layer.vocabulary.tokens = Some(words.into_iter().map(Into::into).collect());
        layer
    }

    /// The same with this many words for each text, padded or cut.
    pub fn output_sequence_length(mut self, length: usize) -> Self {
        self.output_sequence_length = Some(length);
        self
    }

    /// The same with this output mode: `int`, `multi_hot`, `count` or `tf_idf`.
    pub fn output_mode(mut self, mode: &str) -> Self {
        self.vocabulary.encoding.mode = mode.to_owned();
        self
    }

    /// The vocabulary as the mode takes it: padding is the mask of indices alone.
    pub(super) fn words(&self) -> Vocabulary {
        let mask_token = if self.vocabulary.encoding.is_int() { json!("") } else { Value::Null };
        let mut words = Vocabulary { mask_token, ..self.vocabulary.clone() };
        // An adapted vocabulary begins with the padding, whatever the mode.
        if let Some(tokens) = &mut words.tokens
            && !words.encoding.is_int()
            && tokens.first() == Some(&json!(""))
        {
            if words.idf_weights.as_ref().is_some_and(|w| w.len() == tokens.len()) {
                words.idf_weights.as_mut().map(|w| w.remove(0));
            }
            tokens.remove(0);
        }
        words
    }

    fn standardized(&self, call: &mut Call<'_>, mut x: Sym) -> Result<Sym> {
        let name = match &self.standardize {
            Value::Null => return Ok(x),
            Value::String(name) => name.as_str(),
            other => return Err(Error::unsupported(format!("standardizing by a function of Python's, {other}"))),
        };
        if matches!(name, "lower" | "lower_and_strip_punctuation") {
            x = call.op("StringLower").input(x).attr("encoding", "utf-8").one()?;
        }
        if matches!(name, "strip_punctuation" | "lower_and_strip_punctuation") {
            let replace = call.op("StaticRegexReplace").input(x).attr("pattern", PUNCTUATION);
            x = replace.attr("rewrite", "").attr("replace_global", true).one()?;
        }
        Ok(x)
    }

    /// The words of each text, all in one row, and where each text's begin.
    fn pieces(&self, call: &mut Call<'_>, x: Sym) -> Result<[Sym; 2]> {
        let [words, splits] = match self.split.as_str() {
            Some("whitespace") => {
                let separator = super::categories::token(call, &json!(""), DType::String)?;
                let parts = call.op("StringSplitV2").inputs(&[x, separator]).attr("maxsplit", -1i64).all()?;
                let [places, words, shape] = inputs(&parts)?;
                let rows = call.slice(places, &[(None, None, 1), (Some(0), Some(1), 1)])?;
                let rows = call.reshape(rows, &[-1])?;
                let count = call.slice(shape, &[(Some(0), Some(1), 1)])?;
                let count = call.reshape(count, &[])?;
                let ones = call.apply("OnesLike", &[rows])?;
                let lengths = call.apply("UnsortedSegmentSum", &[ones, rows, count])?;
                let axis = call.int(0)?;
                let ends = call.apply("Cumsum", &[lengths, axis])?;
                let begin = call.constant(numbers(&[0.0], &[1], DType::I64)?)?;
                [words, call.concat(&[begin, ends], 0)?]
            }
            Some("character") => {
                let decode = call.op("UnicodeDecode").input(x).attr("input_encoding", "UTF-8");
                let [splits, codes] = inputs(&decode.all()?)?;
                let count = call.op("Size").input(codes).attr("out_type", DType::I64).one()?;
                let (zero, one) = (call.scalar(0.0, count)?, call.scalar(1.0, count)?);
                let end = call.apply("AddV2", &[count, one])?;
                let each = call.apply("Range", &[zero, end, one])?;
                let encode = call.op("UnicodeEncode").inputs(&[codes, each]).attr("output_encoding", "UTF-8");
                [encode.one()?, splits]
            }
            _ => return Err(Error::unsupported(format!("splitting by {}", self.split))),
        };
        match self.widths()? {
            Some(widths) => self.n_grams(call, [words, splits], widths),
            None => Ok([words, splits]),
        }
    }

    /// How many words make one, where they are joined: all numbers up to one, or those of a list.
    fn widths(&self) -> Result<Option<Vec<i64>>> {
        /// More words in a row are no n-gram that anybody asks for.
        const MOST: i64 = 1 << 10;
        let widths: Vec<i64> = match &self.ngrams {
            Value::Null => return Ok(None),
            Value::Array(widths) => widths.iter().filter_map(Value::as_i64).collect(),
            one => (1..=one.as_i64().filter(|n| *n <= MOST).unwrap_or_default()).collect(),
        };
        match widths.is_empty() || widths.iter().any(|w| !(1..=MOST).contains(w)) {
            true => Err(Error::invalid(format!("n-grams of {} words", self.ngrams))),
            false => Ok(Some(widths)),
        }
    }

    fn n_grams(&self, call: &mut Call<'_>, of: [Sym; 2], widths: Vec<i64>) -> Result<[Sym; 2]> {
        let join = call.op("StringNGrams").inputs(&of).attr("separator", " ").attr("ngram_widths", widths);
        let join = join.attr("left_pad", "").attr("right_pad", "").attr("pad_width", 0i64);
        inputs(&join.attr("preserve_short_sequences", false).all()?)
    }
}

/// Where rows end that were padded, as a mask, by the places where they began in one row.
fn row_ends(call: &mut Call<'_>, dense: Sym, splits: Sym) -> Result<Sym> {
    let ends = call.slice(splits, &[(Some(1), None, 1)])?;
    let begins = call.slice(splits, &[(None, Some(-1), 1)])?;
    let lengths = call.apply("Sub", &[ends, begins])?;
    let last = call.int(-1)?;
    let lengths = call.apply("ExpandDims", &[lengths, last])?;
    let shape = call.op("Shape").input(dense).attr("out_type", DType::I64).one()?;
    let width = call.slice(shape, &[(Some(1), Some(2), 1)])?;
    let width = call.reshape(width, &[])?;
    let (zero, one) = (call.scalar(0.0, width)?, call.scalar(1.0, width)?);
    let places = call.apply("Range", &[zero, width, one])?;
    call.apply("Less", &[places, lengths])
}

/// Rows of this length, padded or cut.
fn fitted(call: &mut Call<'_>, dense: Sym, length: usize) -> Result<Sym> {
    let length = length as i64;
    let dense = call.slice(dense, &[(None, None, 1), (None, Some(length), 1)])?;
    let shape = call.apply("Shape", &[dense])?;
    let now = call.slice(shape, &[(Some(1), Some(2), 1)])?;
    let wanted = call.ints(&[length])?;
    let missing = call.apply("Sub", &[wanted, now])?;
    let zeros = call.ints(&[0, 0, 0])?;
    let paddings = call.concat(&[zeros, missing], 0)?;
    let paddings = call.reshape(paddings, &[2, 2])?;
    call.apply("Pad", &[dense, paddings])
}

impl Layer for TextVectorization {
    fn class_name(&self) -> &str {
        "TextVectorization"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        let words = &mut self.vocabulary;
        f.field("max_tokens", &mut words.max_tokens);
        f.field("standardize", &mut self.standardize);
        f.field("split", &mut self.split);
        f.field("ngrams", &mut self.ngrams);
        f.field("output_mode", &mut words.encoding.mode);
        f.field("output_sequence_length", &mut self.output_sequence_length);
        f.field("pad_to_max_tokens", &mut words.pad_to_max_tokens);
        f.field("sparse", &mut words.encoding.sparse);
        f.field("ragged", &mut self.ragged);
        f.field("vocabulary", &mut words.tokens);
        f.field("idf_weights", &mut words.idf_weights);
        f.constant("encoding", &[f.dialect()], json!("utf-8"));
        for key in ["vocabulary_size", "has_input_vocabulary"] {
            f.constant(key, &[], Value::Null);
        }
        if self.ragged && f.dialect() == Dialect::Keras3 {
            f.note("Keras 3's models take no ragged rows, which its outputs are");
        }
        if words.encoding.mode == "binary" {
            words.encoding.mode = "multi_hot".to_owned();
        }
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        let mut dims = input.dims()?.to_vec();
        let splits = !self.split.is_null();
        if splits && dims.len() > 1 {
            dims.pop();
        }
        let words = self.words();
        if !words.encoding.is_int() {
            if !splits {
                dims.pop();
            }
            dims.push(Some(words.depth()?));
            return Ok(vec![Spec::new(dims, encoded(&words.encoding, inputs.compute_dtype()))]);
        }
        if splits {
            dims.push(self.output_sequence_length);
        } else if let (Some(length), Some(last)) = (self.output_sequence_length, dims.last_mut()) {
            *last = Some(length);
        }
        Ok(vec![Spec::new(dims, DType::I64)])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [mut x] = inputs(given)?;
        if self.ragged && self.output_sequence_length.is_some() {
            return Err(Error::unsupported("rows of words as long as each text is (ragged outputs) with an output_sequence_length")
                .help("set \"ragged\": false in its config"));
        }
        let rank = call.spec(x).rank()?;
        let words = self.words();
        let int = words.encoding.is_int();
        let dense = if self.split.is_null() {
            if self.widths()?.is_some() {
                return Err(Error::unsupported("n-grams of texts that aren't split"));
            }
            x = self.standardized(call, x)?;
            words.look_up(call, x)?
        } else {
            if rank > 1 {
                x = call.op("Squeeze").input(x).attr("squeeze_dims", vec![-1i64]).one()?;
            }
            x = self.standardized(call, x)?;
            let [pieces, splits] = self.pieces(call, x)?;
            let found = words.look_up(call, pieces)?;
            // What isn't there pads: index 0, or for vectors an index that none has.
            let nothing = call.scalar(if int { 0.0 } else { -1.0 }, found)?;
            let length = self.output_sequence_length.filter(|_| int).map_or(-1, |l| l as i64);
            let shape = call.constant(numbers(&[-1.0, length as f64], &[2], DType::I64)?)?;
            let pad = call.op("RaggedTensorToTensor").inputs(&[shape, found, nothing, splits]);
            let pad = pad.attr("row_partition_types", vec!["ROW_SPLITS"]).attr("num_row_partition_tensors", 1i64);
            let dense = pad.one()?;
            if self.ragged {
                let ends = row_ends(call, dense, splits)?;
                call.set_row_ends(dense, ends);
            }
            dense
        };
        if !int {
            let spec = Spec::new(vec![None, None], DType::I64);
            return Ok(vec![words.encode(call, dense, &spec)?]);
        }
        match self.output_sequence_length {
            Some(length) if self.split.is_null() => Ok(vec![fitted(call, dense, length)?]),
            _ => Ok(vec![dense]),
        }
    }

    fn masks(&self, call: &mut Call<'_>, _: &[Sym]) -> Result<Vec<Option<Sym>>> {
        let y = call.outputs().first().copied();
        Ok(vec![y.and_then(|y| call.row_ends(y))])
    }

    fn keras2_dtype(&self) -> Option<&'static str> {
        Some("string")
    }

    fn autocasts(&self) -> bool {
        false
    }
}
