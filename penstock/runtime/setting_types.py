"""What the sections of the settings are made of: their base, and kinds of values that several have. No setting stands
here; a value that is wrong raises ValueError, which `load` tells with the name of the setting."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Port", "Section"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Port = Annotated[int, Field(ge=0, le=65535)]
