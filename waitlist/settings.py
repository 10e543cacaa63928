"""The waitlist's settings: read once from FLOODGATE_* at start, frozen, passed down."""

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from waitlist.invites.redemptions import REFUSALS_PER_NETWORK_HOUR
from waitlist.line.entries import LineRules
from waitlist.mail.smtp import SmtpMailer
from waitlist.proofs.tickets import SECRET_CHARS_MIN


class WaitlistSettings(BaseSettings):
    """Everything that the waitlist can be told.

    Raises:
        pydantic.ValidationError: a value is malformed or out of bounds.
    """

    model_config = SettingsConfigDict(
        env_prefix="FLOODGATE_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    waitlist_secret: SecretStr = Field(
        SecretStr(""),
        description="Secret behind tickets and the codes of places, at least 32 characters and the "
        "same for every gateway and command; kept by `floodgate up`. Empty: no waitlist, codes "
        "and keys alone. A new one ends all tickets; codes that were sent stay good.",
    )
    public_url: str = Field(
        "http://localhost:8000", description="Where people reach the gateway: links begin with it."
    )
    smtp_url: SecretStr = Field(
        SecretStr(""),
        description="Mail server: smtp://user:password@host:587 or smtps://host. Empty: nobody "
        "has to confirm an address, and mails wait for the operator.",
    )
    mail_from: str = Field(
        "Floodgate <floodgate@localhost>", description="Sender of the waitlist's mails."
    )
    confirm_life_s: float = Field(
        172_800.0, gt=0, description="How long a join may be confirmed by its mail."
    )
    join_proof_cost: int = Field(
        1000,
        ge=0,
        le=20_000,
        description="Proof of work before joining: PBKDF2 iterations of each of about 256 tries. "
        "0: none. We check one try for each join: 20,000 take about 10 ms.",
    )
    joins_per_network_hour: int = Field(
        30, ge=1, description="Joins an hour from one network (IPv4 /24, IPv6 /64)."
    )
    refusals_per_network_hour: int = Field(
        REFUSALS_PER_NETWORK_HOUR,
        ge=1,
        description="Redemptions an hour from one network that may be refused because the address "
        "has an account or is not the code's.",
    )
    mails_per_mailbox_day: int = Field(
        3, ge=1, description="Confirmation mails a day to one mailbox."
    )
    referral_places: int = Field(
        100, ge=0, description="Joins that somebody is moved ahead for each referral that counts."
    )
    referrals_max: int = Field(5, ge=0, description="Referrals that count for one person.")
    release_automatic: bool = Field(
        False,
        description="Let people in by itself, as far as the engines have room. One gateway worker "
        "leads; `floodgate release decisions` shows each decision with its arithmetic.",
    )
    release_target_use: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Share of the engines' slots that people let in automatically may fill at the "
        "busiest hour.",
    )
    watchers_max: int = Field(
        5000, ge=1, description="Status streams that one gateway worker keeps open."
    )

    @model_validator(mode="after")
    def _usable(self) -> "WaitlistSettings":
        secret = self.waitlist_secret.get_secret_value()
        if 0 < len(secret) < SECRET_CHARS_MIN:
            raise ValueError(
                f"FLOODGATE_WAITLIST_SECRET must have at least {SECRET_CHARS_MIN} characters"
            )
        if not self.public_url.startswith(("http://", "https://")):
            raise ValueError("FLOODGATE_PUBLIC_URL must start with http:// or https://")
        self.mailer()
        return self

    def mailer(self) -> SmtpMailer | None:
        """Raises ValueError where URL or sender cannot be used."""
        url = self.smtp_url.get_secret_value()
        return SmtpMailer(url, self.mail_from) if url else None

    def rules(self) -> LineRules:
        return LineRules(
            confirm_by_mail=bool(self.smtp_url.get_secret_value()),
            confirm_life_s=self.confirm_life_s,
            joins_per_network_hour=self.joins_per_network_hour,
            mails_per_mailbox_day=self.mails_per_mailbox_day,
            referral_places=self.referral_places,
            referrals_max=self.referrals_max,
        )
