"""What the sections of the settings are made of: their base, and kinds of values that several have. No setting stands
here; a value that is wrong raises ValueError, which `load` tells with the name of the setting."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["DatabaseUrl", "Port", "Section"]


def _database_url(value: str) -> str:
    if value and not value.startswith(("sqlite:///", "postgresql://", "postgresql+psycopg://")):
        raise ValueError("begins with sqlite:/// or postgresql://")
    return value


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
Port = Annotated[int, Field(ge=0, le=65535)]
