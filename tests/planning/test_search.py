"""Which layouts a search considers, and which of them it has compiled."""

from typing import get_args

import pytest

from tests.planning.plans import a_plan
from zoo.config import UserError, load_config
from zoo.config.base import Remat
from zoo.config.sizes import num_params
from zoo.planning import search as searching
from zoo.planning.chips import CHIPS
from zoo.planning.plan import DoesNotFit, filled, told
from zoo.planning.search import Guess, guess, layouts, most_promising, search

V5E = CHIPS["v5e"]
LLAMA = filled(load_config("llama_1b"))
VIT = filled(load_config("augreg_in1k:L/16"))


def laid(config, **changes):
    """A config on 16 devices, changed."""
    mesh = {"data": 1, "fsdp": 16, "tensor": 1, "sequence": 1, "slices": 1}
    mesh |= {name: size for name, size in changes.items() if name in mesh}
    model = config.model.replace(remat=changes.get("remat", "none"))
    accumulate = changes.get("accumulate", 1)
    return config.replace(mesh=config.mesh.replace(**mesh), model=model, accumulate=accumulate)


class TestLayouts:
    def test_each_takes_all_devices_and_divides_the_batch(self):
        for one in layouts(LLAMA, 64, 2):
            mesh = one.mesh
            sizes = (mesh.slices, mesh.data, mesh.fsdp, mesh.sequence, mesh.tensor)
            product = 1
            for size in sizes:
                product *= size
            assert product == 64
            assert mesh.slices == 2
            shards = mesh.slices * mesh.data * mesh.fsdp * one.accumulate
            assert one.data.batch_size % shards == 0
            assert one.model.num_kv_heads % mesh.tensor == 0
            assert one.data.length % mesh.sequence == 0

    def test_there_is_one_of_each(self):
        every = list(layouts(LLAMA, 16, 1))
        assert len({told(one) for one in every}) == len(every)
        assert {one.model.remat for one in every} == {"none", "attention", "dots", "full"}
        assert {one.mesh.tensor for one in every} == {1, 2, 4, 8}  # eight heads of keys
        assert {one.mesh.sequence for one in every} == {1, 2, 4}  # 512 tokens on each at least

    def test_heads_that_do_not_divide_are_not_split(self):
        tensors = {one.mesh.tensor for one in layouts(VIT, 16, 1)}
        assert tensors == {1, 2, 4, 8, 16}
        small = filled(load_config("augreg_in1k:Ti/16"))  # three heads
        assert {one.mesh.tensor for one in layouts(small, 16, 1)} == {1}


class TestGuess:
    def test_splitting_parameters_takes_less_memory(self):
        whole = guess(laid(LLAMA, data=16, fsdp=1), V5E, 16)
        split = guess(laid(LLAMA), V5E, 16)
        state = 16 * 1_235_814_400  # parameters, two moments and gradients, float32
        assert whole.bytes - split.bytes > 0.9 * state * 15 / 16

    def test_recomputing_takes_less_memory(self):
        kept = [guess(laid(LLAMA, remat=r), V5E, 16).bytes for r in get_args(Remat)]
        assert kept == sorted(kept, reverse=True)

    def test_microbatches_take_less_memory_and_more_traffic(self):
        one, four = (guess(laid(LLAMA, accumulate=n), V5E, 16) for n in (1, 4))
        assert four.bytes < one.bytes
        slow = V5E._replace(link_rate=1e8)
        one, four = (guess(laid(LLAMA, accumulate=n), slow, 16).seconds for n in (1, 4))
        assert four > 2 * one

    def test_no_layout_is_faster_than_its_products(self):
        floor = 2048 * 2048 * 6 * 1.0e9 / 16 / V5E.flops  # a billion parameters, 4.2 M tokens
        assert min(guess(one, V5E, 16).seconds for one in layouts(LLAMA, 16, 1)) > floor

    def test_recomputing_is_work(self):
        wired = V5E._replace(hbm_rate=1e30, link_rate=1e30)  # products are all that takes time
        kept, again = (guess(laid(LLAMA, remat=r), wired, 16).seconds for r in ("none", "full"))
        assert again / kept == pytest.approx(4 / 3)

    def test_the_network_between_slices_carries_what_a_slice_has_added_up(self):
        slow = V5E._replace(network_rate=1e6)
        sixteen = guess(laid(VIT, slices=16, data=1, fsdp=1), slow, 16).seconds
        assert sixteen == pytest.approx(2 * 15 / 16 * num_params(VIT) * 4 / 1e6)
        # Of two slices each sends half as often, and its eight devices a part each.
        two = guess(laid(VIT, slices=2, data=8, fsdp=1), slow, 16).seconds
        assert two == pytest.approx(2 * 1 / 2 * num_params(VIT) * 4 / 8 / 1e6)

    def test_the_network_between_slices_is_slower_than_links(self):
        alone = guess(laid(VIT, data=16, fsdp=1), V5E, 16)
        apart = guess(laid(VIT, slices=16, data=1, fsdp=1), V5E, 16)
        assert apart.seconds >= alone.seconds


class TestMostPromising:
    """Of pairs (what is guessed, the layout)."""

    fast, small = laid(LLAMA), laid(LLAMA, remat="full")
    micro = laid(LLAMA, accumulate=2)
    other = laid(LLAMA, data=2, fsdp=8)
    every = ((Guess(10.0, 1.0), fast), (Guess(4.0, 2.0), small), (Guess(6.0, 1.5), micro))

    def test_the_fastest_that_fits_comes_first(self):
        assert most_promising(self.every, 20.0, [])[1] == self.fast
        assert most_promising(self.every, 8.0, [])[1] == self.micro
        assert most_promising(self.every, 5.0, [])[1] == self.small

    def test_more_microbatches_are_for_what_does_not_fit(self):
        assert most_promising(self.every, 20.0, [self.every[0]])[1] == self.small
        assert most_promising(self.every, 8.0, [self.every[0]])[1] == self.micro

    def test_a_mesh_is_tried_twice(self):
        every = (*self.every, (Guess(4.0, 3.0), self.other))
        assert most_promising(every, 20.0, every[:2])[1] == self.other

    def test_where_nothing_fits_the_smallest_is_tried(self):
        assert most_promising(self.every, 1.0, [])[1] == self.small
        assert most_promising(self.every, 1.0, self.every) is None


class Judge:
    """In the compiler's place: it says that so much memory is there."""

    def __init__(self, room):
        self.room, self.asked = room, []

    def __call__(self, config, topology, *, slices, examples):
        self.asked.append(config)
        needed = 1.5 * guess(config, V5E, 16).bytes
        if needed > self.room:
            raise DoesNotFit(config, topology, V5E, int(needed))
        return a_plan(step_s=guess(config, V5E, 16).seconds)


class TestSearch:
    @pytest.fixture
    def judge(self, monkeypatch):
        def place(room):
            judge = Judge(room)
            monkeypatch.setattr(searching, "plan", judge)
            monkeypatch.setattr(searching, "describe", lambda topology, slices: range(16))
            return judge

        return place

    def test_what_fits_is_ranked_by_time(self, judge):
        judge(1e15)
        found = search(VIT, "v5e:4x4", tries=3)
        assert len(found.plans) == 3
        assert not found.too_large
        times = [one.step_s for one in found.plans]
        assert times == sorted(times)
        assert found.considered == len(list(layouts(VIT, 16, 1)))

    def test_what_the_compiler_refuses_makes_the_next_ones_smaller(self, judge):
        judge = judge(V5E.hbm)  # half as much again is needed as is guessed
        found = search(LLAMA.replace(data=LLAMA.data.replace(batch_size=256)), "v5e:4x4")
        assert found.plans
        first = judge.asked[: len(found.too_large)]
        assert [one.layout for one in found.too_large] == [told(one) for one in first]

    def test_it_ends_where_nothing_fits(self, judge):
        judge = judge(1.0)
        found = search(LLAMA, "v5e:4x4", tries=2)
        assert (found.plans, len(found.too_large)) == ((), 4)
        assert len(judge.asked) == 4

    def test_a_batch_that_divides_nowhere_is_named(self, judge):
        judge(1e15)
        small = filled(load_config("augreg_in1k:Ti/16"))  # three heads, so no tensor axis
        odd = small.replace(data=small.data.replace(batch_size=7))
        with pytest.raises(UserError, match="batch_size 7 divides over no mesh of 16"):
            search(odd, "v5e:4x4")

    def test_pmap_has_one_layout(self):
        with pytest.raises(UserError, match="'pmap' has only one"):
            search(LLAMA.replace(mode="pmap"), "v5e:4x4")
