"""The rows of an optimizer step are the same, however many processes share it."""

import pytest
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler

from mithridate.training.sampler import FilledDataset, LengthSampler
from mithridate.training.trainer import AnswerCollator, Sample, SampleDataset

LENGTHS = [3 + index * 7 % 40 for index in range(61)]


def steps(processes, micro, batch=8, epoch=0):
    """Return the set of rows of every optimizer step, as accelerate deals them out."""
    sampler = LengthSampler(LENGTHS, batch, 5, multiple=micro * processes if processes > 1 else 1)
    sampler.set_epoch(epoch)
    batches = BatchSampler(sampler, micro, False)
    shares = [
        list(BatchSamplerShard(batches, num_processes=processes, process_index=index))
        if processes > 1
        else list(batches)
        for index in range(processes)
    ]
    assert len({len(share) for share in shares}) == 1  # or one would wait for ever
    per_step = batch // (micro * processes)
    return [
        {
            row
            for share in shares
            for micro_batch in share[start : start + per_step]
            for row in micro_batch
            if row < len(LENGTHS)
        }
        for start in range(0, len(shares[0]), per_step)
    ]


@pytest.mark.parametrize(("processes", "micro"), [(1, 4), (2, 4), (2, 2), (4, 2), (8, 1), (4, 1)])
def test_a_step_has_the_same_rows_for_any_number_of_processes(processes, micro):
    expected = steps(1, 8)
    assert [len(rows) for rows in expected] == [8] * 7 + [5]
    assert set().union(*expected) == set(range(len(LENGTHS)))
    assert steps(processes, micro) == expected


def test_the_order_changes_with_epoch_and_seed_alone():
    first, again = LengthSampler(LENGTHS, 8, 5), LengthSampler(LENGTHS, 8, 5)
    assert list(first) == list(again) == list(first)
    again.set_epoch(1)
    assert list(again) != list(first)
    assert list(LengthSampler(LENGTHS, 8, 6)) != list(first)


def test_what_fills_a_step_up_has_nothing_to_learn():
    rows = FilledDataset(SampleDataset([Sample((5, 6, 7), (8, 9))]))
    assert len(rows) == 1
    batch = AnswerCollator(pad_token_id=1)([rows[0], rows[1]])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [5, 1, 1, 1]]
    assert batch["labels"].tolist() == [8, 9]
    assert batch["places"].tolist() == [[0, 0], [2, 3]]
    alone = AnswerCollator(pad_token_id=1, packing=True)([rows[1]])
    assert alone["labels"].tolist() == []
