"""One command of main.py: data, splits, training, test, and all that is written down about it."""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cgcnn import augment, checkpoint, distributed, job
from cgcnn.announcement import announce, record_data
from cgcnn.augmented import AugmentedCollator
from cgcnn.batch import Collator
from cgcnn.checkpoint import TrainedModel
from cgcnn.dataset import load_dataset
from cgcnn.interrupt import Interrupted, StopRequest
from cgcnn.labels import DataError
from cgcnn.logs import close_logger, log_train_metrics, log_val_metrics, no_logger, setup_logger
from cgcnn.losses import AdaptiveWeights
from cgcnn.naming import alloy_models, run_id
from cgcnn.prediction import GapRule, predict_rows
from cgcnn.prepare import (
    model_to_start_from,
    splits_of_run,
    training_loss,
    untrained_model,
    validation,
    what_all_read,
)
from cgcnn.report import Outputs
from cgcnn.results import RunResult, finish
from cgcnn.resume import SplitResult, check_same_features, check_same_run, run_to_resume, taken_up
from cgcnn.settings import fit_settings, write_config
from cgcnn.training import Trainer
from cgcnn.transfer import freeze_body, take_over

SECONDS_A_SAVE = 3.0  # what a kill loses at the most, beside the epoch it falls in; epochs may be shorter than a save
SECONDS_WITHIN_AN_EPOCH = 300.0  # and of a long epoch


class Experiment:
    """A run of main.py. `run` does it all; what it holds between epochs is what a checkpoint keeps."""

    def __init__(self, args: Namespace, say: Callable[[str], None] = print) -> None:
        self.args, self.say = args, say if job.is_first() else lambda _: None
        self.begun = time.monotonic()
        self.out = Outputs(Path(args.out_dir), run_id(args))
        self.device = job.device("cuda" if torch.cuda.is_available() and not args.disable_cuda else "cpu")
        self.done: list[SplitResult] = []
        self.current = SplitResult()
        self.stop = StopRequest(args.max_time)
        self.has_trained = self.has_saved = False  # this process, a batch and a checkpoint
        self.saved = self.began_network = -math.inf  # when, on the clock of time.monotonic
        self.best_saved: int | None = None  # epoch of the network in model_best.pth.tar
        self.bar = None

    def run(self) -> RunResult:
        """Raises DataError for what is wrong with the input, TrainingError where the loss is not finite.

        Raises Interrupted where `stop` is asked for: in the building of graphs, which keeps what was built, and
        from the first batch on, where what this process saved goes on exactly.
        """
        args = self.args
        if args.threads:
            torch.set_num_threads(args.threads)
        if args.batch_size < job.count():
            raise DataError(f"--batch-size {args.batch_size} has no crystal for each of {job.count()} processes")
        if args.data_on_gpu and not self.device.startswith("cuda"):
            raise DataError("--data-on-gpu: there is no GPU, or --disable-cuda")
        saved = checkpoint.read(Path(args.resume)) if args.resume else None
        self.source = model_to_start_from(args)
        known = self.source.config.get("crystal_features", ()) if self.source else ()
        self.data = load_dataset(args, self.stop.check, known=known)
        models = alloy_models(args, [task.name for task in self.data.tasks.targets])
        self.out = replace(self.out, models=models)
        self.splits = splits_of_run(args, self.data, self.say)
        graph_seconds = time.monotonic() - self.begun
        announce(self, graph_seconds)
        # labels that cannot be learned end here
        self.templates = [untrained_model(args, self.data, split, k) for k, split in enumerate(self.splits, start=1)]
        if saved is not None:
            with taken_up(args.resume):
                self._restore(saved, self.templates)
        with distributed.together(self.device):
            distributed.check_same(*what_all_read(args, self.data, self.splits))
            if job.is_first():
                self._write_head()
            self.host = Collator(self.data.table, self.data.labels, self.data.global_features)
            self.collator = self.host.resident(self.device) if self._holds_data() else self.host
            for k in range(len(self.done), len(self.splits)):
                self._fit_split(k, self.templates[k], saved["training"] if saved and k == len(self.done) else None)
                saved = None
            # the others wait: a machine that has ended its part does not end the job of the one that still writes
            result = RunResult(pd.DataFrame(), pd.DataFrame(), None, self.out.file("trained_model.pt"))
            if job.is_first():
                with distributed.by_itself():
                    result = finish(self, graph_seconds)
            distributed.largest(0)
        return result

    def _holds_data(self) -> bool:
        """Whether the graphs are to lie in the memory of the GPU: where they take less than half of what is free."""
        if not self.device.startswith("cuda"):
            return False
        if self.args.data_on_gpu is not None:
            return self.args.data_on_gpu
        free, _ = torch.cuda.mem_get_info()
        return self.host.num_bytes < free / 2

    def _write_head(self) -> None:
        """What is written before training begins; results of another run move aside."""
        if not self._continues_here() and (line := self.out.move_old()):
            self.say(line)
        write_config(self.out.file("config.toml"), self.args)
        record_data(self)

    def _fit_split(self, k: int, template: TrainedModel, saved: Mapping | None) -> None:
        """Train the networks of split k, from the saved state if there is one."""
        logger = setup_logger(self.out.run_id, k + 1, self.out.result / "log") if job.is_first() else no_logger()
        with taken_up(self.args.resume):
            self.current = SplitResult.from_dict(saved["current"]) if saved else SplitResult()
        try:
            for member in range(len(self.current.states), self.args.ensemble):
                trainer = self._trainer(k, member, template, logger)
                if saved is not None:
                    with taken_up(self.args.resume):
                        before, now = saved["trainer"]["model"], trainer.model.state_dict()
                        check_same_features(self.args.resume, before, now)
                        trainer.load_state_dict(saved["trainer"])
                    saved = None
                try:
                    with self._progress(k, member, trainer):
                        trainer.run()
                except Interrupted:
                    self._save(trainer, template)
                    raise
                self.current.add(trainer, with_last=bool(self.out.models))
        finally:
            close_logger(logger)
        self.done.append(self.current)

    def _trainer(self, k: int, member: int, template: TrainedModel, logger) -> Trainer:
        args, data, split = self.args, self.data, self.splits[k]
        seed = args.seed + 1000 * member + k
        self.saved, self.began_network, self.best_saved = -math.inf, time.monotonic(), None
        torch.manual_seed(seed)
        network = template.build()
        network.fit_statistics(self.host[rows] for rows in torch.tensor(split.train).split(args.batch_size))
        if self.source is not None:
            normalizers, tasks = template.normalizers, template.tasks
            options = {"member": member, "layers": args.init_layers, "reset_heads": args.reset_heads}
            lines = take_over(network, tasks, normalizers, self.source, **options)
            if k == member == 0:
                self.say("\n".join(lines))
        if args.freeze_body:
            freeze_body(network)
        network.to(self.device)
        if args.compile:
            for part in network.to_compile():
                part.compile(dynamic=True)
        val = torch.tensor(split.val, dtype=torch.int64)
        kinds = augment.amounts(args.augment)
        return Trainer(
            network,
            training_loss(args, data, split, template.normalizers, self.device),
            self.collator,
            torch.tensor(split.train),
            fit_settings(args, seed),
            validation(data, split, lambda model: self.predict([model], template, val, rule=None)),
            data.ids,
            self.device,
            AdaptiveWeights(args.adaptive_weight_update) if args.adaptive_weights else None,
            AugmentedCollator(data.table, template.graph, self.host, kinds, seed) if kinds else None,
            on_batch=lambda trainer: self._after_batch(trainer, template, logger),
            on_epoch=lambda trainer: self._after_epoch(trainer, template, logger),
            epoch=args.start_epoch,
        )

    def predict(
        self, networks: Sequence, template: TrainedModel, rows: Tensor, *, rule: GapRule | None
    ) -> dict[str, np.ndarray]:
        """Predictions for rows (n,) of the data set; the rule is for what is reported, not for what is chosen by."""
        return predict_rows(
            networks,
            self.collator,
            rows,
            template.tasks,
            template.normalizers,
            rule=rule,
            batch_size=self.args.batch_size,
            device=self.device,
            max_edges=self.args.max_edges_per_batch,
            check_stop=self._check_while_predicting,
        )

    def _check_while_predicting(self) -> None:
        # After a stop it begins anew: time does not end one that is all that a process has done.
        self.stop.check(by_time=self.has_trained)

    def _after_batch(self, trainer: Trainer, template: TrainedModel, logger) -> None:
        self.has_trained = True
        if trainer.batch % self.args.print_freq == 0:
            logger.info("epoch %d batch %d loss %s", trainer.epoch + 1, trainer.batch, trainer.losses())
        self.stop.check()
        if time.monotonic() - max(self.saved, self.began_network) > SECONDS_WITHIN_AN_EPOCH:
            self._save(trainer, template)

    def _after_epoch(self, trainer: Trainer, template: TrainedModel, logger) -> None:
        last = trainer.history[-1]
        log_train_metrics(logger, trainer.epoch, {**last.losses, "lr": last.lr})
        if self.args.is_validate:
            log_val_metrics(logger, trainer.epoch, {"score": last.score, **last.metrics}, "val")
        if time.monotonic() - self.saved > SECONDS_A_SAVE or trainer.is_finished:
            self._save(trainer, template)
        if self.bar is not None:
            self.bar.set_postfix_str("  ".join(f"{name} {value:.4g}" for name, value in last.metrics.items()))
            self.bar.update(1)

    def _save(self, trainer: Trainer, template: TrainedModel) -> None:
        self.has_saved, self.saved = True, time.monotonic()
        if not job.is_first():
            return
        content = run_to_resume(trainer, template, self.done, self.current, self.data.ids, self.splits)
        checkpoint.save(self.out.top("checkpoint.pth.tar"), content)
        if trainer.best_epoch != self.best_saved and trainer.best_state:
            best = template.with_states([*self.current.states, trainer.best_state])
            checkpoint.save(self.out.top("model_best.pth.tar"), best.to_dict())
            self.best_saved = trainer.best_epoch
        self.saved = time.monotonic()

    def _continues_here(self) -> bool:
        """Whether the files in the output folder are those of the run that is resumed."""
        path = self.out.top("checkpoint.pth.tar")
        return bool(self.args.resume) and path.exists() and path.samefile(self.args.resume)

    def _restore(self, saved: Mapping, templates: Sequence[TrainedModel]) -> None:
        """Take over what was finished. Raises DataError for a checkpoint of another run."""
        training = saved["training"]
        self.done = [SplitResult.from_dict(split) for split in training["done"]]
        described = [template.to_dict() for template in templates]
        check_same_run(saved, self.args, self.data, self.splits, described, finished=len(self.done))

    @contextmanager
    def _progress(self, k: int, member: int, trainer: Trainer):
        from tqdm import tqdm

        name = "training" if len(self.splits) == 1 else f"split {k + 1}/{len(self.splits)}"
        if self.args.ensemble > 1:
            name += f" network {member + 1}/{self.args.ensemble}"
        total = self.args.epochs
        is_off = None if job.is_first() else True  # None: where the output is no terminal
        with tqdm(
            total=total, initial=trainer.epoch, desc=name, unit="epoch", disable=is_off, leave=False
        ) as self.bar:
            yield
        self.bar = None
