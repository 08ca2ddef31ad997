"""Keeps trainings and evaluations. finetune writes them into the run that they belong to."""

import json
from collections.abc import Iterable
from typing import Any

from harvest.store.runs import Runs


class Evaluations(Runs):
    """The SQL statements on trainings and evaluations."""

    def put_training(self, run_name: str, key: str, block: dict[str, Any]) -> None:
        """Writes what one training cost and what came of it. Overwrites an earlier block of the training with this
        `key`."""
        with self.transaction():
            self.db.execute(
                "INSERT INTO training (run_id, key, block) VALUES (?, ?, ?)"
                " ON CONFLICT (run_id, key) DO UPDATE SET block = excluded.block",
                (self.run_id(run_name), key, json.dumps(block, ensure_ascii=False)),
            )

    def put_training_points(
        self, run_name: str, key: str, points: Iterable[dict[str, Any]], since: int | None = None
    ) -> None:
        """Writes logged steps of a training, each with its number in `step`. Overwrites steps that are stored already.

        If the training goes on from the step `since`, the stored steps after `since` are removed first.
        """
        with self.transaction():
            run_id = self.run_id(run_name)
            if since is not None:
                self.db.execute(
                    "DELETE FROM training_point WHERE run_id = ? AND key = ? AND step > ?", (run_id, key, since)
                )
            self.db.executemany(
                "INSERT INTO training_point (run_id, key, step, point) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (run_id, key, step) DO UPDATE SET point = excluded.point",
                [(run_id, key, p["step"], json.dumps(p)) for p in points],
            )

    def put_evaluation(self, run_name: str, key: str, settings: dict[str, Any]) -> None:
        """Writes an evaluation's settings. Overwrites earlier settings of the evaluation with this `key`."""
        with self.transaction():
            self.db.execute(
                "INSERT INTO evaluation (run_id, key, settings) VALUES (?, ?, ?)"
                " ON CONFLICT (run_id, key) DO UPDATE SET settings = excluded.settings",
                (self.run_id(run_name), key, json.dumps(settings, ensure_ascii=False)),
            )

    def evaluation_settings(self, run_name: str, key: str) -> dict[str, Any]:
        """Returns the settings of an evaluation; {} if there is no evaluation with this key."""
        found = self._row("SELECT settings FROM evaluation WHERE id = ?", self._evaluation_id(run_name, key))
        settings: dict[str, Any] = json.loads(found["settings"]) if found else {}
        return settings

    def put_evaluation_answers(self, run_name: str, key: str, rows: Iterable[dict[str, Any]]) -> None:
        with self.transaction():
            evaluation_id = self._evaluation_id(run_name, key)
            self.db.executemany(
                "INSERT INTO evaluation_answer (evaluation_id, question_id, sample, outcome, finish_reason,"
                " output_tokens, cost, text) VALUES (:evaluation_id, :question_id, :sample, :outcome, :finish_reason,"
                " :output_tokens, :cost_pusd, :text) ON CONFLICT (evaluation_id, question_id, sample) DO UPDATE SET"
                " outcome = excluded.outcome, finish_reason = excluded.finish_reason,"
                " output_tokens = excluded.output_tokens, cost = excluded.cost, text = excluded.text",
                [{**r, "evaluation_id": evaluation_id} for r in rows],
            )

    def evaluation_answers(self, run_name: str, key: str) -> list[dict[str, Any]]:
        """Returns the answers of an evaluation, with their texts."""
        return self._answers(self._evaluation_id(run_name, key), ", text")

    def trainings(self, run_id: int) -> list[dict[str, Any]]:
        """Returns the blocks of a run's trainings, the oldest first."""
        rows = self._all("SELECT block FROM training WHERE run_id = ? ORDER BY id", run_id)
        return [json.loads(r["block"]) for r in rows]

    def curves(self, run_id: int) -> list[list[dict[str, Any]]]:
        """Returns the logged steps of each training, in the order of `trainings`."""
        rows = self._all(
            "SELECT training.id, point FROM training LEFT JOIN training_point AS p ON p.run_id = training.run_id"
            " AND p.key = training.key WHERE training.run_id = ? ORDER BY training.id, step",
            run_id,
        )
        found: dict[int, list[dict[str, Any]]] = {}
        for r in rows:
            found.setdefault(r["id"], []).extend([json.loads(r["point"])] if r["point"] else [])
        return list(found.values())

    def evaluations(self, run_id: int) -> list[dict[str, Any]]:
        """Returns a run's evaluations, the oldest first, each with its key, settings, and answers (without texts)."""
        return [
            {"key": e["key"], "settings": json.loads(e["settings"]), "answers": self._answers(e["id"], "")}
            for e in self._all("SELECT id, key, settings FROM evaluation WHERE run_id = ? ORDER BY id", run_id)
        ]

    def _answers(self, evaluation_id: int, text: str) -> list[dict[str, Any]]:
        return self._all(
            f"SELECT question_id, sample, outcome, finish_reason, output_tokens, cost AS cost_pusd {text}"  # noqa: S608 - ours
            " FROM evaluation_answer WHERE evaluation_id = ? ORDER BY question_id, sample",
            evaluation_id,
        )

    def _evaluation_id(self, run_name: str, key: str) -> int:
        row = self._row("SELECT id FROM evaluation WHERE run_id = ? AND key = ?", self.run_id(run_name), key)
        return int(row["id"]) if row else 0
