"""A verb that takes a study: `astray run STUDY`. The command of a study is made when that study is asked for, with its
options alone."""

from collections.abc import Callable, Sequence
from typing import Any

import click
from typing_extensions import override

from astray.cli.options import Option, options_of
from astray.errors import ConfigurationError
from astray.studies import QUESTIONS, study_options


class StudyVerb(click.Group):
    """A verb whose commands are the studies.

    Args:
        name: of the verb.
        does: the function behind it, which takes a study's name and options.
        help: what it does.
        own: options of the verb, which are no study's.
    """

    def __init__(self, name: str, does: Callable[..., object], help: str, own: Sequence[Option]):
        super().__init__(name, help=help, no_args_is_help=True, subcommand_metavar="STUDY [OPTIONS]")
        self.does, self.own = does, own

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(QUESTIONS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Return the command of a study.

        Raises:
            UnknownNameError: there is no such study; lists them.
        """
        kind, question = study_options(cmd_name)

        def do(**given: Any) -> object:
            from astray.engine.options import from_command_line

            typed = {name: value for name, value in given.items() if value is not None and value != ()}
            return self.does(cmd_name, **from_command_line(kind, typed))

        return StudyCommand(cmd_name, kind, params=[*options_of(kind), *self.own], callback=do, help=question)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = {
            "my-study.yaml": (
                "A study of your own, in a file: `astray new my-study.yaml` writes an example, `astray schema` tells "
                "its form."
            )
        }
        with formatter.section("Studies"):
            formatter.write_dl([*QUESTIONS.items(), *own.items()])
        formatter.write_paragraph()
        formatter.write_text(f"The options of a study: {ctx.command_path} STUDY --help")

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise ConfigurationError(
                f"{error.option_name} stands before the study. Name the study first: {ctx.command_path} STUDY "
                f"{error.option_name} ... Studies: {', '.join(QUESTIONS)}."
            ) from error


class StudyCommand(click.Command):
    """A verb on one study, with the study's options under their headings."""

    def __init__(self, name: str, kind: Any, **settings: Any):
        super().__init__(name, **settings)
        self.kind = kind

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        from astray.engine.options import check_taken

        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            check_taken(self.kind, error.option_name)
            raise

    @override
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from astray.engine.flags import Group

        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                groups.setdefault(getattr(param, "group", "Help"), []).append(record)
        for group in [*(str(one) for one in Group if str(one) in groups), *(groups.keys() - set(Group))]:
            with formatter.section(group):
                formatter.write_dl(groups[group])
