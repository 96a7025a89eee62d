"""foundry-eval vlm: what models say with and without their pictures, from the run to the report.

A run that has learnt the colours of pictures must see; its losses are those that training tells.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from foundry_testing.pairs import TestPair, write_pairs
from foundry_testing.vlm_runs import COLOURS, coloured, make_store, run

from robot_foundry.catalog.mixture import commit_mixture, make_mixture
from robot_foundry.catalog.selection import DEFAULT_FRACTION
from robot_foundry.catalog.store import Store
from robot_foundry.cli import foundry_eval
from robot_foundry.cli.output import run as run_command
from robot_foundry.evaluation.vlm import losses as losses_module
from robot_foundry.evaluation.vlm.asked import AskedPairs
from robot_foundry.evaluation.vlm.losses import losses
from robot_foundry.evaluation.vlm.scorecard import Scorecard, scorecard
from robot_foundry.loader.pairs.template import PairText
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.shards.pairs.pair import Turn
from robot_foundry.trainer.models.llm import packed_bias
from robot_foundry.trainer.outcome import Outcome
from robot_foundry.trainer.tasks.vlm.trained import Trained, load_trained

HELD_OUT = "1/4"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """That of runs, and 'asked': two questions about each picture, with kinds, and pairs without pictures."""
    store = make_store(tmp_path_factory.mktemp("store"))
    write_pairs(store, "asked", [*map(asked_pair, range(24)), *map(blind_pair, range(3))], per_shard=16)
    return store


def asked_pair(number: int) -> TestPair:
    name = list(COLOURS)[number % len(COLOURS)]
    turns = [
        ("user", "<image>\nColour?"),
        ("assistant", name),
        ("user", "Number?"),
        ("assistant", str(number % 3)),
    ]
    return TestPair([coloured(name, 500 + number)], turns=turns, metadata={"kinds": ["colour", "number"]})


def blind_pair(number: int) -> TestPair:
    return TestPair(
        turns=[("user", f"What is {number}?"), ("assistant", f"{number}")], metadata={"kinds": ["x", "y"]}
    )


@pytest.fixture(scope="module")
def outcome(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run that has learnt four colours, and holds out another share than runs usually do."""
    settings = (
        "data.mix=colours",
        f"data.val_fraction={HELD_OUT}",
        "data.rows={length: 48, image: [16, 16], packed: false}",
        "optim.lr=1e-2",
        "run.precision=fp32",  # what the scorecard computes in
    )
    steps = ("run.steps=60", "run.save_every=60", "run.log_every=20", "run.eval_samples=1000")
    return run(store, tmp_path_factory.mktemp("colours"), *settings, *steps)


@pytest.fixture(scope="module")
def trained(outcome: Outcome) -> Trained:
    return load_trained(outcome.run_dir)


@pytest.fixture(scope="module")
def card(trained: Trained, store: Store) -> Scorecard:
    return scorecard(trained, make_mixture(store, {"asked": 1}, split="all"))


def test_a_model_that_sees_is_told_from_one_that_guesses(card: Scorecard) -> None:
    colour = card.to_json()["kinds"]["colour"]
    assert colour["real"]["answers"] == colour["blank"]["answers"] == 24
    assert colour["real"]["exact"] > 0.9
    assert colour["blank"]["exact"] <= 0.5 and colour["shuffled"]["exact"] <= 0.5
    assert colour["chance"]["commonest"]["exact"] == colour["chance"]["uniform"]["exact"] == 0.25
    assert colour["real_minus_blank"]["exact_95"][0] > 0.3
    loss = card.to_json()["loss"]
    assert all(loss[f"{name}_minus_real"]["nats_95"][0] > 0 for name in ("blank", "shuffled", "absent"))


def test_shuffled_answers_are_those_about_the_other_picture(card: Scorecard) -> None:
    """The model saw the partner's picture: where it names colours rightly, it names the partner's."""
    colours = [(n, question) for n, question in enumerate(card.questions) if question.kind == "colour"]
    truth = {question.pair: question.answer for _, question in colours}
    told = {question.pair: card.answers["real"][n] for n, question in colours}
    agree = [
        card.answers["shuffled"][n] == told[int(card.partner_n[question.pair])] for n, question in colours
    ]
    assert all(agree)
    assert len(truth) == 24


def test_numbers_are_near_or_not(card: Scorecard) -> None:
    number = card.to_json()["kinds"]["number"]
    assert number["real"]["near"] >= number["real"]["exact"]
    assert number["chance"]["uniform"] == {"exact": pytest.approx(1 / 3), "near": pytest.approx(7 / 9)}


def test_pairs_without_pictures_have_no_controls(card: Scorecard) -> None:
    report = card.to_json()
    assert set(report["kinds"]) == {"colour", "number", "answer"}
    assert set(report["kinds"]["answer"]) == {"real", "chance"}
    of_pictures = report["loss"]["real"]["tokens"] - int(card.loss_tokens_n["real"][24:].sum())
    for name in ("blank", "shuffled", "absent"):
        assert report["loss"][name]["tokens"] == of_pictures
        assert not card.loss_tokens_n[name][24:].any() and np.isnan(card.loss_sum_n[name][24:]).all()
    assert any("3 pairs have no picture" in note for note in report["notes"])
    assert any("of 3 pairs `kinds` does not name each answer" in note for note in report["notes"])
    assert report["data"] == {
        "asked": {"version": card.asked.opened.parts[0].component.version, "pairs": 27, "of": 27}
    }


def test_the_loss_is_that_of_training(outcome: Outcome, trained: Trained, store: Store) -> None:
    """The held-out loss of the run is the mean over the same pairs, by another code."""
    lines = (outcome.run_dir / "metrics.jsonl").read_text().splitlines()
    held_out = json.loads(lines[-1])["held_out/answer"]
    opened = make_mixture(store, {"colours": 1}, split="val", val_fraction=HELD_OUT)
    found = scorecard(trained, opened).to_json()
    assert found["loss"]["real"]["nats"] == pytest.approx(held_out, rel=1e-5)


def test_the_loss_without_pictures_is_that_of_the_words_alone(trained: Trained, store: Store) -> None:
    """By hand: the decoder reads nothing but the text, also that of a caption that begins with nothing."""
    specials, end = trained.tokenizer.specials, trained.tokenizer.end
    asked, answer = b"\nColour?", b"red"
    told = [specials["<|user|>"], *asked, specials["<|end|>"], specials["<|assistant|>"]]
    long = "very long " * 6  # with its picture's 4 tokens it is longer than a row, of which 48 has the run
    rows = {
        "turns": (TestPair([coloured("red", 1)], turns=[("user", "<image>\nColour?"), ("assistant", "red")]),
                  [*told, *answer, specials["<|end|>"]], len(told)),
        "caption": (TestPair([coloured("red", 2)], {"caption": "so red"}), [end, *b"so red", end], 1),
        "cut": (TestPair([coloured("red", 3)], {"caption": long}), [end, *long.encode()[:44]], 1),
    }  # fmt: skip
    assert trained.config.image_tokens == 4 and trained.config.data.rows.length == 48
    write_pairs(store, "wordy", [pair for pair, *_ in rows.values()])
    card = scorecard(trained, make_mixture(store, {"wordy": 1}, split="all"))
    for n, (_, ids, first) in enumerate(rows.values()):
        assert card.loss_tokens_n["absent"][n] == card.loss_tokens_n["real"][n] == len(ids) - first
        assert card.loss_sum_n["absent"][n] == pytest.approx(words_cost(trained, ids, first), rel=1e-5)
    more = card.loss_sum_n["absent"].sum() - card.loss_sum_n["real"].sum()
    found = card.to_json()["loss"]["absent_minus_real"]
    assert found["nats"] == pytest.approx(more / card.loss_tokens_n["real"].sum())
    assert found["nats_95"][0] < found["nats"] < found["nats_95"][1]


@torch.inference_mode()
def words_cost(trained: Trained, ids: list[int], first: int) -> float:
    """Nats of the tokens from number `first` on, each behind all those before it."""
    model, length = trained.model, len(ids) - 1
    bias = packed_bias(torch.zeros(1, length, dtype=torch.int64))
    states_SD = model.backbone.decoder.states(torch.tensor([ids[:-1]]), torch.arange(length)[None], bias)[0]
    logit_TV = states_SD[first - 1 :] @ model.output_weight.T
    return float(F.cross_entropy(logit_TV, torch.tensor(ids[first:]), reduction="sum"))


def test_losses_do_not_depend_on_what_is_beside(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    names = list(COLOURS)
    texts = [
        PairText(1, {}, (Turn("user", "<image>\nColour?"), Turn("assistant", name * (1 + i))))
        for i, name in enumerate(names)
    ]
    texts.append(PairText(0, {"caption": "no picture"}))
    pictures: list[list[Any]] = [*([coloured(name, i)] for i, name in enumerate(names)), []]
    choice_n = np.zeros(len(texts))
    sums, counts = losses(trained, texts, pictures, choice_n)
    monkeypatch.setattr(losses_module, "ROWS", 1)
    alone, counts_alone = losses(trained, texts, pictures, choice_n)
    assert np.array_equal(counts, counts_alone)
    assert sums == pytest.approx(alone, rel=1e-5)
    # A byte each and the end.
    assert counts.tolist() == [
        *(len(name) * (1 + i) + 1 for i, name in enumerate(names)),
        len("no picture") + 1,
    ]


def test_a_lot_of_pairs_is_of_the_seed_alone(trained: Trained, store: Store) -> None:
    opened = make_mixture(store, {"asked": 1}, split="all")
    lots = [AskedPairs(opened, most=9, seed=seed) for seed in (0, 0, 1)]
    ids = [[lot.pair(n).id for n in range(len(lot))] for lot in lots]
    assert ids[0] == ids[1] != ids[2]
    assert len(set(ids[0])) == 9 and ids[0] == sorted(ids[0], key=int)


def test_a_mixture_asks_each_selected_pair_once(trained: Trained, store: Store) -> None:
    asked = AskedPairs(make_mixture(store, {"asked": 3, "colours": 1}, split="all"), most=None, seed=0)
    assert {name: of["pairs"] for name, of in asked.to_json().items()} == {"asked": 27, "colours": 80}
    assert len(asked.content_n) == len(asked) == 107
    assert all(
        asked.num_pictures_n[n] == len(asked.pictures(n)) == asked.text(n).num_pictures
        for n in range(len(asked))
    )


def test_captions_have_a_loss_and_no_questions(trained: Trained, store: Store) -> None:
    rows = [TestPair([coloured("red", i)], {"caption": f"red {i}"}) for i in range(6)]
    write_pairs(store, "captioned", rows)
    card = scorecard(trained, make_mixture(store, {"captioned": 1}, split="all"))
    assert card.to_json()["kinds"] == {} and card.rows() == []
    assert card.to_json()["loss"]["real"]["tokens"] == 6 * len("red 0\0")


def test_the_same_report_from_the_command(outcome: Outcome, store: Store, tmp_path: Path, capsys) -> None:
    arguments = ["vlm", str(outcome.run_dir), "asked", "--store", store.url, "--split", "all"]
    assert run_command(foundry_eval.group, "foundry-eval", [*arguments, "--out", str(tmp_path / "one")]) == 0
    shown = capsys.readouterr().out
    assert (
        run_command(
            foundry_eval.group, "foundry-eval", [*arguments, "--out", str(tmp_path / "two"), "--json"]
        )
        == 0
    )
    report = json.loads(capsys.readouterr().out)
    for name in ("scorecard.json", "answers.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert json.loads((tmp_path / "one" / "scorecard.json").read_text()) | {"out": report["out"]} == report
    assert report["checkpoint"] == "step-00000060"
    rows = [json.loads(line) for line in (tmp_path / "one" / "answers.jsonl").read_text().splitlines()]
    right = [row for row in rows if row["kind"] == "colour" and row["real"] == row["answer"]]
    assert len(right) == report["kinds"]["colour"]["real"]["exact"] * 24
    line = next(line for line in shown.splitlines() if line.startswith("colour"))
    assert line.split()[1] == "24" and f"{len(right) / 24:.1%}" in line
    assert "27 pairs of asked, all; 51 questions" in shown


def test_a_dry_run_asks_nothing(outcome: Outcome, store: Store, tmp_path: Path, capsys) -> None:
    arguments = ["vlm", str(outcome.run_dir), "asked", "--store", store.url, "--split", "all", "--pairs", "5"]
    asked = [*arguments, "--out", str(tmp_path / "out"), "--dry-run"]
    assert run_command(foundry_eval.group, "foundry-eval", asked) == 0
    assert "would ask about 5 of 27 pairs" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_what_a_run_holds_out_is_asked_about(outcome: Outcome, store: Store, capsys) -> None:
    asked = ["vlm", str(outcome.run_dir), "colours", "--store", store.url, "--dry-run", "--json"]
    assert run_command(foundry_eval.group, "foundry-eval", asked) == 0
    held_out, usual = (
        make_mixture(store, {"colours": 1}, split="val", val_fraction=share).mixture.components[0].num_samples
        for share in (HELD_OUT, DEFAULT_FRACTION)
    )
    assert json.loads(capsys.readouterr().out)["of"] == held_out != usual


def test_a_stored_mixture_takes_no_condition(outcome: Outcome, store: Store, capsys) -> None:
    commit_mixture(make_mixture(store, {"asked": 1}), "stored")
    asked = ["vlm", str(outcome.run_dir), "stored", "--store", store.url, "--where", "num_images > 0"]
    assert run_command(foundry_eval.group, "foundry-eval", asked) == 2
    assert "'stored' is a stored mixture, which says itself" in capsys.readouterr().err


def test_what_cannot_be_asked_is_told(outcome: Outcome, trained: Trained, store: Store, capsys) -> None:
    run_dir = str(outcome.run_dir)
    assert (
        run_command(foundry_eval.group, "foundry-eval", ["vlm", run_dir, "tales", "--store", store.url]) == 1
    )
    assert "scored on pairs, not on" in capsys.readouterr().err
    contrastive = replace(
        trained, config=replace(trained.config, model=replace(trained.config.model, objective="contrastive"))
    )
    with pytest.raises(UsageError, match="learns the objective contrastive"):
        scorecard(contrastive, make_mixture(store, {"asked": 1}, split="all"))
    with pytest.raises(FoundryError):
        make_mixture(store, {"asked": 1}, split="all", where="num_images = 5")
