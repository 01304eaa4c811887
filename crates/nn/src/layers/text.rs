//! TextVectorization.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};
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
    fn words(&self) -> Vocabulary {
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

    /// The words of each text: indices of row and place, the words, and the extents.
    fn pieces(&self, call: &mut Call<'_>, x: Sym) -> Result<[Sym; 3]> {
        match self.split.as_str() {
            Some("whitespace") => {
                let separator = super::categories::token(call, &json!(""), DType::String)?;
                let parts = call.op("StringSplitV2").inputs(&[x, separator]).attr("maxsplit", -1i64).all()?;
                inputs(&parts)
            }
            Some("character") => {
                // One byte sequence a character: split by nothing, empty pieces left out.
                let separator = super::categories::token(call, &json!(""), DType::String)?;
                let parts = call.op("StringSplit").inputs(&[x, separator]).attr("skip_empty", true).all()?;
                inputs(&parts)
            }
            _ => Err(Error::unsupported(format!("splitting by {}", self.split))),
        }
    }
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
        if self.ragged {
            return Err(Error::unsupported("ragged outputs"));
        }
        if !self.ngrams.is_null() {
            return Err(Error::unsupported("n-grams"));
        }
        let rank = call.spec(x).rank()?;
        let words = self.words();
        let int = words.encoding.is_int();
        let mut dense = if self.split.is_null() {
            x = self.standardized(call, x)?;
            words.look_up(call, x)?
        } else {
            if rank > 1 {
                x = call.op("Squeeze").input(x).attr("squeeze_dims", vec![-1i64]).one()?;
            }
            x = self.standardized(call, x)?;
            let [places, pieces, shape] = self.pieces(call, x)?;
            let found = words.look_up(call, pieces)?;
            // What isn't there pads: index 0, or for vectors an index that none has.
            let one = call.scalar(1.0, found)?;
            let found = if int { found } else { call.apply("AddV2", &[found, one])? };
            let dense = call.apply("ScatterNd", &[places, found, shape])?;
            if int { dense } else { call.apply("Sub", &[dense, one])? }
        };
        if !int {
            let spec = Spec::new(vec![None, None], DType::I64);
            return Ok(vec![words.encode(call, dense, &spec)?]);
        }
        if let Some(length) = self.output_sequence_length {
            let length = length as i64;
            dense = call.slice(dense, &[(None, None, 1), (None, Some(length), 1)])?;
            let shape = call.apply("Shape", &[dense])?;
            let now = call.slice(shape, &[(Some(1), Some(2), 1)])?;
            let wanted = call.constant(numbers(&[length as f64], &[1], DType::I32)?)?;
            let missing = call.apply("Sub", &[wanted, now])?;
            let zeros = call.ints(&[0, 0, 0])?;
            let paddings = call.concat(&[zeros, missing], 0)?;
            let paddings = call.reshape(paddings, &[2, 2])?;
            dense = call.apply("Pad", &[dense, paddings])?;
        }
        Ok(vec![dense])
    }

    fn autocasts(&self) -> bool {
        false
    }
}
