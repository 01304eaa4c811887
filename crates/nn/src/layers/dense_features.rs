//! DenseFeatures: what feature columns make of a dict of features.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Dialect, Error, Result};
use serde_json::{Value, json};

use super::Entry;
use super::categories::{bucket, token};
use super::lookup::Vocabulary;
use crate::config::{Fields, Initializer, plain};
use crate::layer::{WeightSpec, inputs};
use crate::{Argument, Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[Entry::of::<DenseFeatures>(&["DenseFeatures"])];

/// The columns that a list of feature columns makes of a dict of features, side by side (Keras 2: `DenseFeatures`).
///
/// Numeric, bucketized, indicator and embedding columns are computed, over identities, hashes, vocabularies, buckets and
/// crosses of them, weighted by other features or not.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseFeatures {
    feature_columns: Value,
    partitioner: Value,
}

impl Default for DenseFeatures {
    fn default() -> Self {
        DenseFeatures { feature_columns: json!([]), partitioner: Value::Null }
    }
}

/// A column's config.
#[derive(Clone, Copy)]
struct Column<'a> {
    class: &'a str,
    config: &'a Value,
}

impl<'a> Column<'a> {
    fn of(node: &'a Value) -> Result<Self> {
        let class = node.get("class_name").and_then(Value::as_str);
        match (class, node.get("config")) {
            (Some(class), Some(config)) => Ok(Column { class, config }),
            _ => Err(Error::invalid("a feature column has no class or no config")),
        }
    }

    fn within(self, key: &str) -> Result<Column<'a>> {
        Column::of(self.option(key).ok_or_else(|| self.lacks(key))?)
    }

    /// What a key says, if it isn't null.
    fn option(self, key: &str) -> Option<&'a Value> {
        self.config.get(key).filter(|v| !v.is_null())
    }

    fn text(self, key: &str) -> Result<&'a str> {
        self.option(key).and_then(Value::as_str).ok_or_else(|| self.lacks(key))
    }

    fn count(self, key: &str) -> Result<usize> {
        let count = self.option(key).and_then(Value::as_u64);
        count.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| self.lacks(key))
    }

    fn list(self, key: &str) -> Result<&'a [Value]> {
        self.option(key).and_then(Value::as_array).map(Vec::as_slice).ok_or_else(|| self.lacks(key))
    }

    fn lacks(self, key: &str) -> Error {
        Error::invalid(format!("a {} says nothing that fits under {key:?}", self.class))
    }

    fn unsupported(self) -> Error {
        let error = Error::unsupported(format!("feature columns of the class {}", self.class));
        match (self.class, self.text("vocabulary_file")) {
            ("VocabularyFileCategoricalColumn", Ok(file)) => error.help(format!(
                "its words are in the file {file:?}, which isn't in the model's; give the column them as a list \
                 (categorical_column_with_vocabulary_list) and save the model again"
            )),
            _ => error,
        }
    }

    /// The name, by which weights are called.
    fn name(self) -> Result<String> {
        Ok(match self.class {
            "EmbeddingColumn" => format!("{}_embedding", self.within("categorical_column")?.name()?),
            "WeightedCategoricalColumn" => {
                let categories = self.within("categorical_column")?.name()?;
                format!("{categories}_weighted_by_{}", self.text("weight_feature_key")?)
            }
            "CrossedColumn" => {
                let mut names = self.leaves()?.into_iter().map(Leaf::name).collect::<Result<Vec<_>>>()?;
                names.sort_unstable();
                names.join("_X_")
            }
            "BucketizedColumn" => format!("{}_bucketized", self.within("source_column")?.name()?),
            _ => self.text("key")?.to_owned(),
        })
    }

    /// How many numbers of a numeric column make one.
    fn elements(self) -> Result<usize> {
        let extents = self.list("shape")?.iter().map(|d| d.as_u64().and_then(|d| usize::try_from(d).ok()));
        let product = extents.into_iter().try_fold(1usize, |n, d| n.checked_mul(d?));
        product.ok_or_else(|| self.lacks("shape"))
    }

    fn boundaries(self) -> Result<Vec<f32>> {
        let numbers = self.list("boundaries")?.iter().map(|b| b.as_f64().map(|b| b as f32));
        numbers.collect::<Option<_>>().ok_or_else(|| self.lacks("boundaries"))
    }

    /// How many categories there are.
    fn categories(self) -> Result<usize> {
        let sum = match self.class {
            "IdentityCategoricalColumn" => Some(self.count("number_buckets")?),
            "HashedCategoricalColumn" | "CrossedColumn" => Some(self.count("hash_bucket_size")?),
            "WeightedCategoricalColumn" => Some(self.within("categorical_column")?.categories()?),
            "VocabularyListCategoricalColumn" => {
                self.list("vocabulary_list")?.len().checked_add(self.count("num_oov_buckets")?)
            }
            "BucketizedColumn" => {
                let each = self.list("boundaries")?.len().checked_add(1);
                each.and_then(|n| Some((n, self.within("source_column").ok()?.elements().ok()?)))
                    .and_then(|(n, elements)| n.checked_mul(elements))
            }
            _ => return Err(self.unsupported()),
        };
        sum.ok_or_else(|| Error::limit("a feature column has more categories than can be counted"))
    }

    /// How many numbers the column gives.
    fn width(self) -> Result<usize> {
        match self.class {
            "NumericColumn" => self.elements(),
            "BucketizedColumn" => self.categories(),
            "IndicatorColumn" => self.within("categorical_column")?.categories(),
            "EmbeddingColumn" => self.count("dimension"),
            _ => Err(self.unsupported()),
        }
    }

    fn weight(self) -> Result<Option<WeightSpec>> {
        if self.class != "EmbeddingColumn" {
            return Ok(None);
        }
        let shape = [self.within("categorical_column")?.categories()?, self.count("dimension")?];
        let option =
            |key: &str| self.config.pointer(&format!("/initializer/config/{key}")).and_then(Value::as_f64);
        let deviation = option("stddev").unwrap_or(1.0 / (shape[1].max(1) as f64).sqrt());
        let initializer = Initializer::TruncatedNormal(option("mean").unwrap_or(0.0), deviation, Value::Null);
        let weight = WeightSpec::new(&self.weight_name()?, shape, &initializer);
        let trains = self.option("trainable").and_then(Value::as_bool).unwrap_or(true);
        Ok(Some(if trains { weight } else { weight.fixed() }))
    }

    fn weight_name(self) -> Result<String> {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' };
        Ok(format!("{}/embedding_weights", self.name()?.chars().map(plain).collect::<String>()))
    }

    /// The column's numbers, a row each.
    fn dense(self, call: &mut Call<'_>, features: &Features<'_>) -> Result<Sym> {
        let width = self.width()?;
        let y = match self.class {
            "NumericColumn" => self.numbers(call, features)?,
            "IndicatorColumn" | "BucketizedColumn" => {
                let categories =
                    if self.class == "BucketizedColumn" { self } else { self.within("categorical_column")? };
                let (ids, shares) = categories.shares(call, features)?;
                let depth = categories.categories()?;
                let (on, off) = (call.constant_f32(1.0)?, call.constant_f32(0.0)?);
                let depth =
                    call.int(i64::try_from(depth).map_err(|_| Error::limit("too many categories"))?)?;
                let mut hot = call.op("OneHot").inputs(&[ids, depth, on, off]).attr("axis", -1i64).one()?;
                if let Some(shares) = shares {
                    let last = call.int(-1)?;
                    let shares = call.apply("ExpandDims", &[shares, last])?;
                    hot = call.apply("Mul", &[hot, shares])?;
                }
                call.reduce("Sum", hot, &[1], false)?
            }
            _ => self.embedded(call, features)?,
        };
        call.reshape(y, &[-1, i64::try_from(width).map_err(|_| Error::limit("too wide a column"))?])
    }

    fn numbers(self, call: &mut Call<'_>, features: &Features<'_>) -> Result<Sym> {
        if self.class != "NumericColumn" {
            return Err(self.unsupported());
        }
        if self.option("normalizer_fn").is_some() {
            return Err(Error::unsupported("a numeric column that is normalized by a function of Python's"));
        }
        let x = features.get(self.text("key")?)?;
        call.cast(x, DType::F32)
    }

    /// The categories of each row, those that are missing -1, and how much each counts where a feature says so.
    fn shares(self, call: &mut Call<'_>, features: &Features<'_>) -> Result<(Sym, Option<Sym>)> {
        if self.class != "WeightedCategoricalColumn" {
            return Ok((self.ids(call, features)?, None));
        }
        let ids = self.within("categorical_column")?.ids(call, features)?;
        let shares = features.rows(call, self.text("weight_feature_key")?)?;
        Ok((ids, Some(call.cast(shares, DType::F32)?)))
    }

    /// What is crossed, crosses within it taken apart.
    fn leaves(self) -> Result<Vec<Leaf<'a>>> {
        let mut leaves = Vec::new();
        for key in self.list("keys")? {
            match (key.as_str(), key) {
                (Some(feature), _) => leaves.push(Leaf::Feature(feature)),
                (None, column) => match Column::of(column)? {
                    cross if cross.class == "CrossedColumn" => leaves.extend(cross.leaves()?),
                    column => leaves.push(Leaf::Column(column)),
                },
            }
        }
        Ok(leaves)
    }

    /// A category for each combination of a row's categories, by its hash; TensorFlow has columns before features.
    fn crossed(self, call: &mut Call<'_>, features: &Features<'_>) -> Result<Sym> {
        let (mut places, mut values, mut shapes, mut dense) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for leaf in self.leaves()? {
            match leaf {
                Leaf::Feature(key) => dense.push(features.rows(call, key)?),
                Leaf::Column(column) => {
                    let (ids, given) = column.given(call, features)?;
                    let place = call.apply("Where", &[given])?;
                    values.push(call.apply("GatherNd", &[ids, place])?);
                    shapes.push(call.op("Shape").input(ids).attr("out_type", DType::I64).one()?);
                    places.push(place);
                }
            }
        }
        let types = |call: &Call<'_>, all: &[Sym]| all.iter().map(|&x| call.dtype(x)).collect::<Vec<DType>>();
        let (sparse_types, dense_types) = (types(call, &values), types(call, &dense));
        // Numbers among them make TensorFlow cross by numbers.
        let texts = sparse_types.iter().chain(&dense_types).all(|&dtype| dtype == DType::String);
        let key = self.option("hash_key").and_then(Value::as_i64).filter(|&key| key != 0);
        let count = i64::try_from(self.categories()?).map_err(|_| Error::limit("too many categories"))?;
        let crossed = call
            .op("SparseCross")
            .attr("N", places.len() as i64)
            .inputs(&[&places[..], &values, &shapes, &dense].concat())
            .attr("hashed_output", true)
            .attr("num_buckets", count)
            .attr("hash_key", key.unwrap_or(CROSS_KEY))
            .attr("sparse_types", sparse_types)
            .attr("dense_types", dense_types)
            .attr("out_type", DType::I64)
            .attr("internal_type", if texts { DType::String } else { DType::I64 })
            .all()?;
        let [places, values, shape] = inputs(&crossed)?;
        let none = token(call, &json!(-1), DType::I64)?;
        call.apply("SparseToDense", &[places, shape, values, none])
    }

    /// The categories of each row; those that are missing are -1.
    fn ids(self, call: &mut Call<'_>, features: &Features<'_>) -> Result<Sym> {
        if self.class == "CrossedColumn" {
            return self.crossed(call, features);
        }
        let (ids, given) = self.given(call, features)?;
        if self.class == "BucketizedColumn" {
            return Ok(ids);
        }
        let none = token(call, &json!(-1), DType::I64)?;
        call.apply("SelectV2", &[given, ids, none])
    }

    /// The categories of each row, and which of them are given.
    fn given(self, call: &mut Call<'_>, features: &Features<'_>) -> Result<(Sym, Sym)> {
        if self.class == "BucketizedColumn" {
            let source = self.within("source_column")?;
            let (x, elements) = (source.numbers(call, features)?, source.elements()?);
            let boundaries = self.boundaries()?;
            let each = boundaries.len() as i64 + 1;
            let x = call.reshape(x, &[-1, elements as i64])?;
            let buckets = call.op("Bucketize").input(x).attr("boundaries", boundaries).one()?;
            let firsts: Vec<i64> = (0..elements as i64).map(|i| i.saturating_mul(each)).collect();
            let firsts = call.ints(&firsts)?;
            let buckets = call.cast(buckets, DType::I64)?;
            let firsts = call.cast(firsts, DType::I64)?;
            let ids = call.apply("AddV2", &[buckets, firsts])?;
            return Ok((ids, call.apply("Equal", &[ids, ids])?));
        }
        let mut x = features.rows(call, self.text("key")?)?;
        let text = call.dtype(x) == DType::String;
        if !text {
            x = call.cast(x, DType::I64)?;
        }
        let nothing = if text { json!("") } else { json!(-1) };
        let nothing = token(call, &nothing, call.dtype(x))?;
        let given = call.apply("NotEqual", &[x, nothing])?;
        let hashed = |call: &mut Call<'_>, count: usize| {
            let x = if text { x } else { call.apply("AsString", &[x])? };
            bucket(call, x, count, &Value::Null)
        };
        let none = token(call, &json!(-1), DType::I64)?;
        let ids = match self.class {
            "IdentityCategoricalColumn" => {
                let (zero, count) = (json!(0), json!(self.count("number_buckets")?));
                let (zero, count) = (token(call, &zero, DType::I64)?, token(call, &count, DType::I64)?);
                let (low, high) = (call.apply("GreaterEqual", &[x, zero])?, call.apply("Less", &[x, count])?);
                let known = call.apply("LogicalAnd", &[low, high])?;
                let other = token(call, self.option("default_value").unwrap_or(&json!(-1)), DType::I64)?;
                call.apply("SelectV2", &[known, x, other])?
            }
            "HashedCategoricalColumn" => hashed(call, self.count("hash_bucket_size")?)?,
            "VocabularyListCategoricalColumn" => {
                let words = self.list("vocabulary_list")?;
                let key = if text { DType::String } else { DType::I64 };
                let mut vocabulary = Vocabulary::new(key, Value::Null);
                vocabulary.num_oov_indices = 0;
                vocabulary.tokens = Some(words.to_vec());
                let found = vocabulary.look_up(call, x)?;
                let unknown = call.apply("Equal", &[found, none])?;
                let other = match self.count("num_oov_buckets")? {
                    0 => token(call, self.option("default_value").unwrap_or(&json!(-1)), DType::I64)?,
                    count => {
                        let first = token(call, &json!(words.len()), DType::I64)?;
                        let hash = hashed(call, count)?;
                        call.apply("AddV2", &[hash, first])?
                    }
                };
                call.apply("SelectV2", &[unknown, other, found])?
            }
            _ => return Err(self.unsupported()),
        };
        Ok((ids, given))
    }

    /// The rows of a table for each row's categories, combined; zeros where there are none.
    fn embedded(self, call: &mut Call<'_>, features: &Features<'_>) -> Result<Sym> {
        if self.option("max_norm").is_some() {
            return Err(Error::unsupported("an embedding column with max_norm"));
        }
        let (ids, shares) = self.within("categorical_column")?.shares(call, features)?;
        let combiner = self.text("combiner")?;
        let zero = call.scalar(0.0, ids)?;
        let known = call.apply("GreaterEqual", &[ids, zero])?;
        let mut known = call.cast(known, DType::F32)?;
        if let Some(mut shares) = shares {
            if combiner != "sum" {
                // A mean has no negative shares.
                let least = call.constant_f32(0.0)?;
                shares = call.apply("Maximum", &[shares, least])?;
            }
            known = call.apply("Mul", &[known, shares])?;
        }
        let rows = call.apply("Maximum", &[ids, zero])?;
        let (table, axis) = (call.weight(&self.weight_name()?)?, call.int(0)?);
        let table = call.cast(table, DType::F32)?;
        let rows = call.apply("GatherV2", &[table, rows, axis])?;
        let last = call.int(-1)?;
        let share = call.apply("ExpandDims", &[known, last])?;
        let rows = call.apply("Mul", &[rows, share])?;
        let sum = call.reduce("Sum", rows, &[1], false)?;
        let count = match combiner {
            "sum" => return Ok(sum),
            "sqrtn" => {
                let squares = call.apply("Mul", &[known, known])?;
                let squares = call.reduce("Sum", squares, &[1], true)?;
                call.apply("Sqrt", &[squares])?
            }
            "mean" => call.reduce("Sum", known, &[1], true)?,
            other => return Err(Error::unsupported(format!("embeddings combined by {other:?}"))),
        };
        call.apply("DivNoNan", &[sum, count])
    }
}

/// What a cross is made of.
#[derive(Clone, Copy)]
enum Leaf<'a> {
    /// A feature as it is given, by its key.
    Feature(&'a str),
    /// The categories of a column.
    Column(Column<'a>),
}

impl Leaf<'_> {
    fn name(self) -> Result<String> {
        match self {
            Leaf::Feature(key) => Ok(key.to_owned()),
            Leaf::Column(column) => column.name(),
        }
    }
}

/// The key of the hash that TensorFlow takes where a cross has none.
const CROSS_KEY: i64 = 956_888_297_470;

/// The features by their keys.
struct Features<'a> {
    dict: &'a [(String, Argument<usize>)],
    given: &'a [Sym],
}

impl Features<'_> {
    fn get(&self, key: &str) -> Result<Sym> {
        let found = self.dict.iter().find(|(name, _)| name == key).and_then(|(_, a)| match a {
            Argument::Tensor(index) => self.given.get(*index).copied(),
            _ => None,
        });
        found.ok_or_else(|| Error::mismatch(format!("the features have no {key:?}")))
    }

    /// A feature as rows of values; whole numbers in 64 bits.
    fn rows(&self, call: &mut Call<'_>, key: &str) -> Result<Sym> {
        let mut x = self.get(key)?;
        let rank = call.spec(x).rank()?;
        if rank > 2 {
            return Err(Error::unsupported("categories of more than two dimensions"));
        }
        if rank == 1 {
            x = call.reshape(x, &[-1, 1])?;
        }
        if call.dtype(x).is_integer() { call.cast(x, DType::I64) } else { Ok(x) }
    }
}

impl Call<'_> {
    fn constant_f32(&mut self, value: f32) -> Result<Sym> {
        self.constant(modelark_artifact::tensor::Tensor::scalar(value))
    }
}

impl DenseFeatures {
    fn columns(&self) -> Result<Vec<Column<'_>>> {
        let all = self.feature_columns.as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().map(Column::of).collect()
    }
}

impl Layer for DenseFeatures {
    fn class_name(&self) -> &str {
        "DenseFeatures"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("feature_columns", &mut self.feature_columns);
        f.field("partitioner", &mut self.partitioner);
        f.only_in(Dialect::Keras2);
        self.feature_columns = plain(&self.feature_columns).into_owned();
    }

    fn weights(&self, _: &Inputs) -> Result<Vec<WeightSpec>> {
        let weights: Result<Vec<_>> = self.columns()?.into_iter().map(Column::weight).collect();
        Ok(weights?.into_iter().flatten().collect())
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let widths = self.columns()?.into_iter().map(Column::width).collect::<Result<Vec<_>>>()?;
        let width = widths.into_iter().try_fold(0usize, usize::checked_add);
        let width = width.ok_or_else(|| Error::limit("its columns are wider than can be counted"))?;
        let batch = inputs.first()?.dims()?.first().copied().flatten();
        Ok(vec![Spec::new(vec![batch, Some(width)], DType::F32)])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let Some(Argument::Dict(dict)) = call.inputs().arguments().first().map(|(_, a)| a.clone()) else {
            return Err(Error::mismatch("it takes a dict of features"));
        };
        let features = Features { dict: &dict, given };
        let columns = self.columns()?;
        let parts = columns.iter().map(|c| c.dense(call, &features)).collect::<Result<Vec<_>>>()?;
        match &parts[..] {
            [] => Err(Error::invalid("it has no feature columns")),
            [one] => Ok(vec![*one]),
            many => Ok(vec![call.concat(many, -1)?]),
        }
    }

    fn arguments(&self) -> &[&str] {
        &["features"]
    }

    fn autocasts(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_say_their_names_widths_and_weights() {
        let numeric = json!({"class_name": "NumericColumn", "config": {"key": "a b", "shape": [2]}});
        let buckets = json!({"class_name": "BucketizedColumn", "config": {"source_column": numeric, "boundaries": [1, 2]}});
        let embedding = json!({"class_name": "EmbeddingColumn", "config": {"categorical_column": buckets, "dimension": 5}});
        let layer =
            DenseFeatures { feature_columns: json!([numeric, buckets, embedding]), partitioner: Value::Null };
        let columns = layer.columns().expect("columns");
        let widths: Vec<usize> = columns.iter().map(|c| c.width().expect("a width")).collect();
        assert_eq!(widths, [2, 6, 5]);
        let weight = columns[2].weight().expect("reads").expect("a weight");
        assert_eq!(
            (&*weight.name, &weight.shape[..]),
            ("a_b_bucketized_embedding/embedding_weights", &[6, 5][..])
        );
        let cross = json!({"class_name": "CrossedColumn", "config": {"keys": ["z", buckets], "hash_bucket_size": 7}});
        let outer = json!({"class_name": "CrossedColumn", "config": {"keys": [cross, "c"], "hash_bucket_size": 9}});
        let outer = Column::of(&outer).expect("a column");
        assert_eq!((outer.name().expect("a name").as_str(), outer.categories().expect("a count")), (
            "a b_bucketized_X_c_X_z",
            9
        ));
        let strange = json!({"class_name": "SharedEmbeddingColumn", "config": {}});
        assert!(Column::of(&strange).expect("a column").width().is_err());
    }
}
