//! Words that choose: padding, data format.

use modelark_artifact::{Error, Result};
use serde_json::{Value, json};

use super::{ConfigValue, Reader, Writer, expected};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident: $what:literal { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// The word that Keras has for it.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;

            fn from_str(word: &str) -> Result<Self, Error> {
                match word.to_ascii_lowercase().as_str() {
                    $($word => Ok($name::$variant),)*
                    _ => Err(Error::invalid(format!("there is no {} {word:?}", $what))
                        .help(concat!("it is one of", $(" ", $word),*))),
                }
            }
        }

        impl ConfigValue for $name {
            fn read(value: &Value, _: &Reader<'_>) -> Result<Self> {
                value.as_str().ok_or_else(|| expected($what, value))?.parse()
            }

            fn write(&self, _: &mut Writer) -> Value {
                json!(self.word())
            }
        }
    };
}

words! {
    /// How the borders of a convolution or a pooling are treated.
    Padding: "padding" {
        /// No padding: the output is smaller.
        #[default]
        Valid = "valid",
        /// Zeros around, so that with stride 1 the output is as large as the input.
        Same = "same",
        /// Zeros before (1-D only): an output depends on no later input.
        Causal = "causal",
    }
}

words! {
    /// Where the channels of an image or a sequence are.
    DataFormat: "data format" {
        /// The last axis.
        #[default]
        ChannelsLast = "channels_last",
        /// The axis after the batch.
        ChannelsFirst = "channels_first",
    }
}

impl Padding {
    /// What TensorFlow's ops call it; causal padding is made by hand before a `VALID` op.
    pub fn op(self) -> &'static str {
        if self == Padding::Same { "SAME" } else { "VALID" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_in_any_case() {
        assert_eq!("SAME".parse::<Padding>().unwrap(), Padding::Same);
        let error = "full".parse::<Padding>().unwrap_err().to_string();
        assert!(error.contains("valid same causal"), "{error}");
    }
}
