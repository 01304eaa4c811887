//! Vocabularies: StringLookup and IntegerLookup.

use std::hash::{DefaultHasher, Hash, Hasher};

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::{DType, Tensor};
use modelark_artifact::{Error, Result};
use serde_json::{Value, json};

use super::{Entry, TextVectorization};
use super::categories::{Encoding, bucket, encoded, token};
use crate::config::{Fields, numbers};
use crate::layer::inputs;
use crate::{Call, Inputs, Instance, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<IntegerLookup>(&["IntegerLookup", "IndexLookup"]),
    Entry::of::<StringLookup>(&["StringLookup"]),
];

/// A vocabulary: tokens and their indices, with what stands before them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Vocabulary {
    pub tokens: Option<Vec<Value>>,
    pub max_tokens: Option<usize>,
    pub num_oov_indices: usize,
    pub oov_token: Value,
    pub mask_token: Value,
    pub idf_weights: Option<Vec<f64>>,
    pub invert: bool,
    pub pad_to_max_tokens: bool,
    pub encoding: Encoding,
    pub oov_method: Option<String>,
    pub salt: Value,
    /// Of the tokens: strings, or `int64`.
    pub key: DType,
}

impl Vocabulary {
    pub fn new(key: DType, oov_token: Value) -> Self {
        Vocabulary {
            tokens: None,
            max_tokens: None,
            num_oov_indices: 1,
            oov_token,
            mask_token: Value::Null,
            idf_weights: None,
            invert: false,
            pad_to_max_tokens: false,
            encoding: Encoding::new("int"),
            oov_method: None,
            salt: Value::Null,
            key,
        }
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("max_tokens", &mut self.max_tokens);
        f.field("num_oov_indices", &mut self.num_oov_indices);
        f.field("oov_token", &mut self.oov_token);
        f.field("mask_token", &mut self.mask_token);
        f.field("vocabulary", &mut self.tokens);
        f.field("idf_weights", &mut self.idf_weights);
        f.field("invert", &mut self.invert);
        f.field("pad_to_max_tokens", &mut self.pad_to_max_tokens);
        self.encoding.visit(f);
        let mut method = self.oov_method.clone().filter(|m| m != "floormod");
        f.keras3("oov_method", &mut method);
        self.oov_method = method;
        f.keras3("salt", &mut self.salt);
        for key in ["vocabulary_size", "has_input_vocabulary", "has_static_table"] {
            f.constant(key, &[], Value::Null);
        }
    }

    fn masks(&self) -> bool {
        !self.mask_token.is_null() && self.encoding.is_int()
    }

    /// The index of the first token that stands for unknown ones.
    fn first_oov(&self) -> usize {
        usize::from(self.masks())
    }

    /// The tokens without the mask and what stands for unknown ones.
    fn words(&self) -> Result<&[Value]> {
        let all = self.tokens.as_deref().ok_or_else(|| {
            Error::missing("it has no vocabulary").help("give one in the config, or load the archive that holds it")
        })?;
        let mask = usize::from(self.masks());
        let special = mask + self.num_oov_indices;
        let same = |a: &Value, b: &Value| a == b || a.to_string().trim_matches('"') == b.to_string().trim_matches('"');
        let begins = all.get(..special).is_some_and(|head| {
            let masked = mask == 0 || head.first().is_some_and(|t| same(t, &self.mask_token));
            masked && head.iter().skip(mask).all(|t| same(t, &self.oov_token)) && special > 0
        });
        Ok(if begins { all.get(special..).unwrap_or_default() } else { all })
    }

    /// How many indices there are.
    pub fn depth(&self) -> Result<usize> {
        match self.max_tokens.filter(|_| self.pad_to_max_tokens) {
            Some(most) => Ok(most),
            None => Ok(self.words()?.len() + self.first_oov() + self.num_oov_indices),
        }
    }

    fn keys(&self) -> Result<Tensor> {
        let words = self.words()?;
        if self.key == DType::String {
            let texts = words.iter().map(|w| match w {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            let texts: Vec<String> = texts.collect();
            return Ok(Tensor::from_strings(texts.iter().map(String::as_bytes).collect::<Vec<_>>(), [words.len()])?);
        }
        let number = |w: &Value| w.as_i64().or_else(|| w.as_f64().map(|f| f as i64)).or_else(|| w.as_str()?.parse().ok());
        let ints = words.iter().map(|w| number(w).ok_or_else(|| crate::config::expected("an integer", w)));
        Ok(Tensor::from_vec(ints.collect::<Result<Vec<i64>>>()?, [words.len()])?)
    }

    /// What a table gives for keys; the table is filled when it is first asked.
    fn find(&self, call: &mut Call<'_>, x: Sym) -> Result<Sym> {
        let keys = self.keys()?;
        let first = (self.first_oov() + self.num_oov_indices) as i64;
        let indices: Vec<i64> = (first..).take(keys.len()).collect();
        // By its content, so that models in one process don't meet in a table.
        let mut hasher = DefaultHasher::new();
        (format!("{:?}", self.words()?), first, self.invert, self.key).hash(&mut hasher);
        let name = format!("vocabulary_{:016x}", hasher.finish());
        let count = keys.len();
        let keys = call.constant(keys)?;
        let indices = call.constant(Tensor::from_vec(indices, [count])?)?;
        let (keys, values) = if self.invert { (indices, keys) } else { (keys, indices) };
        let table = call.op("HashTableV2").attr("shared_name", name);
        let (from, to) = if self.invert { (DType::I64, self.key) } else { (self.key, DType::I64) };
        let table = table.attr("key_dtype", from).attr("value_dtype", to).one()?;
        call.op("LookupTableImportV2").inputs(&[table, keys, values]).run()?;
        let default = if self.invert {
            token(call, &self.oov_token, self.key)?
        } else {
            let unknown = if self.num_oov_indices == 1 { self.first_oov() as f64 } else { -1.0 };
            call.constant(numbers(&[unknown], &[], DType::I64)?)?
        };
        call.apply("LookupTableFindV2", &[table, x, default])
    }

    /// The indices of tokens, or the tokens of indices.
    pub fn look_up(&self, call: &mut Call<'_>, x: Sym) -> Result<Sym> {
        let key = if self.invert { DType::I64 } else { self.key };
        let x = if call.dtype(x) == key { x } else { call.cast(x, key)? };
        let mut found = self.find(call, x)?;
        if !self.mask_token.is_null() {
            let (mask, value) = if self.invert {
                (call.scalar(0.0, x)?, token(call, &self.mask_token, self.key)?)
            } else {
                // Outside of any vector where vectors are made.
                let value = if self.encoding.is_int() { 0.0 } else { -2.0 };
                (token(call, &self.mask_token, self.key)?, call.constant(numbers(&[value], &[], DType::I64)?)?)
            };
            let masked = call.apply("Equal", &[x, mask])?;
            found = call.apply("SelectV2", &[masked, value, found])?;
        }
        if self.invert || self.num_oov_indices < 2 {
            return Ok(found);
        }
        let mut unknown = if self.key.is_integer() && self.oov_method.as_deref() != Some("farmhash") {
            let count = call.scalar(self.num_oov_indices as f64, x)?;
            call.apply("FloorMod", &[x, count])?
        } else {
            let text = if self.key == DType::String { x } else { call.apply("AsString", &[x])? };
            bucket(call, text, self.num_oov_indices, &self.salt)?
        };
        let (first, none) = (call.scalar(self.first_oov() as f64, found)?, call.scalar(-1.0, found)?);
        unknown = call.apply("AddV2", &[unknown, first])?;
        let missing = call.apply("Equal", &[found, none])?;
        call.apply("SelectV2", &[missing, unknown, found])
    }

    /// A weight for each index, where words have weights that count (Keras: `idf_weights`).
    pub fn weights(&self) -> Result<Option<Vec<f64>>> {
        let Some(idf) = self.idf_weights.as_ref().filter(|_| self.encoding.mode == "tf_idf") else { return Ok(None) };
        // What stands for unknown tokens weighs as an average one, unless the vocabulary has it with a weight of its own.
        let own = self.tokens.as_ref().is_some_and(|all| all.len() > self.words().map_or(0, <[Value]>::len));
        let mean = idf.iter().sum::<f64>() / (idf.len().max(1)) as f64;
        let mut weights = vec![mean; if own { 0 } else { self.num_oov_indices }];
        weights.extend(idf);
        weights.resize(self.depth()?, 0.0);
        Ok(Some(weights))
    }

    /// What is known of the output.
    pub fn output(&self, input: &Spec, compute: DType) -> Result<Spec> {
        if self.invert {
            return Ok(Spec { shape: input.shape.clone(), dtype: self.key });
        }
        self.encoding.output(input, if self.encoding.is_int() { 0 } else { self.depth()? }, encoded(&self.encoding, compute))
    }

    /// Indices, or vectors of them.
    pub fn encode(&self, call: &mut Call<'_>, found: Sym, spec: &Spec) -> Result<Sym> {
        if self.invert || self.encoding.is_int() {
            return Ok(found);
        }
        let (dtype, depth) = (encoded(&self.encoding, call.inputs().compute_dtype()), self.depth()?);
        let y = self.encoding.apply(call, found, spec, depth, dtype, None)?;
        if self.encoding.mode != "tf_idf" {
            return Ok(y);
        }
        let weights = self.weights()?.ok_or_else(|| Error::missing("it has no idf_weights"))?;
        let weights = call.constant(numbers(&weights, &[depth], dtype)?)?;
        call.apply("Mul", &[y, weights])
    }
}

macro_rules! lookups {
    ($($(#[$doc:meta])* $name:ident: $key:ident, $oov:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            vocabulary: Vocabulary,
        }

        impl Default for $name {
            fn default() -> Self {
                $name { vocabulary: Vocabulary::new(DType::$key, $oov) }
            }
        }

        impl $name {
            /// A layer of these tokens.
            pub fn new<T: Into<Value>>(tokens: impl IntoIterator<Item = T>) -> Self {
                let mut layer = $name::default();
                layer.vocabulary.tokens = Some(tokens.into_iter().map(Into::into).collect());
                layer
            }

            /// The same with this output mode: `int`, `one_hot`, `multi_hot`, `count` or `tf_idf`.
            pub fn output_mode(mut self, mode: &str) -> Self {
                self.vocabulary.encoding.mode = mode.to_owned();
                self
            }

            /// The same with as many indices for unknown tokens.
            pub fn num_oov_indices(mut self, count: usize) -> Self {
                self.vocabulary.num_oov_indices = count;
                self
            }

            /// The same; this token has index 0, which masks.
            pub fn mask_token(mut self, token: impl Into<Value>) -> Self {
                self.vocabulary.mask_token = token.into();
                self
            }

            /// The same from indices to tokens.
            pub fn invert(mut self) -> Self {
                self.vocabulary.invert = true;
                self
            }
        }

        impl Layer for $name {
            fn class_name(&self) -> &str {
                stringify!($name)
            }

            fn visit(&mut self, f: &mut Fields<'_>) {
                self.vocabulary.visit(f);
                if self.vocabulary.key == DType::String {
                    f.constant("encoding", &[f.dialect()], json!("utf-8"));
                } else {
                    f.field("vocabulary_dtype", &mut self.vocabulary.key);
                }
            }

            fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
                Ok(vec![self.vocabulary.output(inputs.first()?, inputs.compute_dtype())?])
            }

            fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
                let [x] = inputs(given)?;
                let spec = call.spec(x);
                let found = self.vocabulary.look_up(call, x)?;
                Ok(vec![self.vocabulary.encode(call, found, &spec)?])
            }

            fn keras2_dtype(&self) -> Option<&'static str> {
                match self.vocabulary.invert {
                    // What a word is there, an integer is here.
                    true => Some(if self.vocabulary.key == DType::String { "string" } else { "int64" }),
                    false => self.vocabulary.encoding.is_int().then_some("int64"),
                }
            }

            fn autocasts(&self) -> bool {
                false
            }
        }
    )*};
}

/// The weights of a layer's words, as Keras 2 keeps them in a variable; and the layer that holds it, where that is one
/// within it.
pub(crate) fn weights_of_words(layer: &Instance) -> Result<Option<(Vec<f64>, Option<Instance>)>> {
    if let Some(text) = layer.downcast::<TextVectorization>() {
        let vocabulary = text.words();
        let weights = vocabulary.weights()?;
        return Ok(weights.map(|w| (w, Some(Instance::from(StringLookup { vocabulary }).named("string_lookup")))));
    }
    let strings = layer.downcast::<StringLookup>().map(|l| &l.vocabulary);
    let vocabulary = strings.or_else(|| layer.downcast::<IntegerLookup>().map(|l| &l.vocabulary));
    Ok(vocabulary.map(Vocabulary::weights).transpose()?.flatten().map(|w| (w, None)))
}

lookups! {
    /// Strings to indices of a vocabulary, or back (Keras: `StringLookup`).
    StringLookup: String, json!("[UNK]");
    /// Integers to indices of a vocabulary, or back (Keras: `IntegerLookup`).
    IntegerLookup: I64, json!(-1);
}
