"""transformers' MarianMTs load here with their logits and words; what is saved here loads there."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.encdecs import apply
from tests.pretrained.oracles import close, round_trip, torch, transformers
from tests.pretrained.published import load
from tests.pretrained.test_hf_marian import CODE, ENGLISH, GERMAN, write_languages
from zoo.data.text.tokenizers import load_tokenizer
from zoo.inference.translate import load_translator

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("default")]


def make_theirs(rows, **changes):
    torch.manual_seed(0)
    config = transformers.MarianConfig(
        **{
            "vocab_size": rows, "d_model": 16, "encoder_layers": 2, "decoder_layers": 3,
            "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 24,
            "decoder_ffn_dim": 24, "max_position_embeddings": 64, "scale_embedding": True,
            "activation_function": "swish", "pad_token_id": rows - 1,
            "decoder_start_token_id": rows - 1, "eos_token_id": 0, "forced_eos_token_id": None,
            **changes,
        }
    )  # fmt: skip
    theirs = transformers.MarianMTModel(config).eval()
    for name, parameter in theirs.named_parameters():
        if "positions" not in name:
            parameter.data += 0.2 * torch.randn(parameter.shape)
    theirs.final_logits_bias += 0.2 * torch.randn(theirs.final_logits_bias.shape)
    theirs.generation_config.bad_words_ids = [[rows - 1]]
    return theirs


@pytest.mark.parametrize("options", [{}, {"scale_embedding": False, "activation_function": "relu"}])
def test_logits_both_ways(options, tmp_path):
    theirs = make_theirs(20, **options)
    theirs.save_pretrained(tmp_path / "theirs")
    cfg, params = load(tmp_path / "theirs")
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, 20, (2, 2, 40))
    tokens = {"input_ids": torch.tensor(source), "decoder_input_ids": torch.tensor(target)}
    expected = theirs(**tokens).logits
    found = apply(cfg, params, *(jnp.asarray(x, jnp.int32) for x in (source, target)))
    close(found, expected)
    again = round_trip(tmp_path, transformers.MarianMTModel)
    assert torch.equal(again(**tokens).logits, expected)


def test_pieces_and_greedy_words_are_theirs(tmp_path):
    rows = len(write_languages(tmp_path / "theirs"))
    theirs = make_theirs(rows, forced_eos_token_id=0)
    theirs.save_pretrained(tmp_path / "theirs")
    again = round_trip(tmp_path, transformers.MarianMTModel)
    path = tmp_path / "theirs"
    for name in ("theirs", "back"):
        library = transformers.MarianTokenizer.from_pretrained(tmp_path / name)
        ours = load_tokenizer(tmp_path / name)
        texts = [
            *ENGLISH[:2],
            *GERMAN[:2],
            f"{CODE} the house",
            "snow ☃ and 日本",
            "  two  spaces ",
        ]
        for text in texts:
            assert library(text)["input_ids"] == [*ours.encode(text).tolist(), 0]
            target = library(text_target=text)["input_ids"]
            assert target == [*ours.for_targets().encode(text).tolist(), 0]
            assert ours.decode(target) == library.decode(target, skip_special_tokens=True)
    translator = load_translator(path, beams=1, alpha=0.0)
    for text in ENGLISH[:2]:
        given = library(text, return_tensors="pt")
        for model in (theirs, again):
            words = model.generate(**given, num_beams=1, do_sample=False, max_new_tokens=12)
            expected = library.decode(words[0], skip_special_tokens=True)
            found = translator.translate([text])[0]["target"]
            assert found.startswith(expected)
            assert expected
