import pytest
from textual.app import App

from line_neurons.tools.store.records import Step
from line_neurons.tui.app.unit.history import HistoryTable, step_text

GUESS = {"score": 2.04, "deviation": 2.4, "improvement": 0.22, "knows": 0.41}
WAITING = {"step": 1, "left": 0, "waiting": [["eel", 0.2, 1]]}


def steps(guidance):
    detail = {"guidance": guidance, "proposals": WAITING} if guidance else None
    initial = Step("run", 0, 0, 0, "initial", "scored", "ox", 1.0)
    return [initial, Step("run", 0, 1, 0, "iteration", "scored", "cow", 3.0, detail=detail, seed=1)]


class Shown(App):
    def compose(self):
        yield HistoryTable()


@pytest.mark.anyio
async def test_a_history_shows_what_was_predicted_where_there_is_room():
    async with Shown().run_test(size=(100, 20)) as pilot:
        table = pilot.app.query_one(HistoryTable)

        def labels():
            return [str(column.label) for column in table.ordered_columns]

        table.show(steps({}), 3.0)
        assert labels() == ["step", "concept", "score", "outcome"]
        table.show(steps(GUESS), 3.0)
        assert labels() == ["step", "concept", "pred.", "score", "outcome"]
        assert [[str(cell) for cell in table.get_row_at(row)][1:4] for row in (0, 1)] == [
            ["ox", "", "1"], ["cow", "2.04", "3"]
        ]  # fmt: skip
        await pilot.resize_terminal(40, 20)
        await pilot.pause()
        assert "pred." not in labels()
        assert table.row_count == 2


def test_a_step_says_what_was_expected_and_which_concepts_wait():
    said = str(step_text(steps(GUESS)[1]))
    assert "predicted 2.04 ± 2.4; expected improvement 0.22; less promising, waiting: eel 0.2" in said
