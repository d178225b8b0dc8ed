"""What a profile may say of gender and education: tables of the portal, in schema student."""

from sqlalchemy import Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from pysync.models.portal import PortalBase


class ChoiceColumns:
    """A code as profiles store it, and what people read."""

    code: Mapped[str] = mapped_column(String(6), primary_key=True)
    display_name: Mapped[str] = mapped_column(String(255))
    position: Mapped[int] = mapped_column(
        Integer, unique=True, comment="where forms list it, from 1"
    )


class Gender(ChoiceColumns, PortalBase):
    """A choice for ``auth_userprofile.gender``."""

    __tablename__ = "gender"
    __table_args__ = ({"schema": "student"},)


class LevelOfEducation(ChoiceColumns, PortalBase):
    """A choice for ``auth_userprofile.level_of_education``."""

    __tablename__ = "level_of_education"
    __table_args__ = ({"schema": "student"},)
