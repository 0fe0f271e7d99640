// The shopping cart. Prices are in cents.

export interface Item {
  sku: string;
  cents: number;
  quantity: number;
  category: "book" | "toy" | "food" | "gift_card";
}

export interface Coupon {
  code: string;
  percent?: number;
  cents?: number;
  minimum?: number;
  expires: Date;
}

const MAX_QUANTITY = 20;
const FREE_SHIPPING_FROM = 5900;

export class CartError extends Error {
  constructor(public readonly code: string, message: string) {
    super(message);
  }
}

export class Cart {
  private items = new Map<string, Item>();
  private coupon: Coupon | null = null;

  add(item: Item): void {
    const existing = this.items.get(item.sku);
    const quantity = (existing?.quantity ?? 0) + item.quantity;
    if (quantity > MAX_QUANTITY) {
      throw new CartError("too_many", `at most ${MAX_QUANTITY} of ${item.sku}`);
    }
    this.items.set(item.sku, { ...item, quantity });
  }

  remove(sku: string): boolean {
    return this.items.delete(sku);
  }

  /** Only one coupon at a time; a second one replaces the first. */
  apply(coupon: Coupon, now = new Date()): void {
    if (coupon.expires < now) {
      throw new CartError("expired", `${coupon.code} ended on ${coupon.expires.toDateString()}`);
    }
    if (this.subtotal() < (coupon.minimum ?? 0)) {
      throw new CartError("below_minimum", `${coupon.code} needs ${coupon.minimum} cents`);
    }
    this.coupon = coupon;
  }

  subtotal(): number {
    let sum = 0;
    for (const item of this.items.values()) {
      sum += item.cents * item.quantity;
    }
    return sum;
  }

  discount(): number {
    if (!this.coupon) return 0;
    // gift cards are money, they get no discount
    const base = [...this.items.values()]
      .filter((item) => item.category !== "gift_card")
      .reduce((sum, item) => sum + item.cents * item.quantity, 0);
    if (this.coupon.percent) {
      return Math.floor((base * this.coupon.percent) / 100);
    }
    return Math.min(this.coupon.cents ?? 0, base);
  }

  shipping(country: string): number {
    if (this.subtotal() - this.discount() >= FREE_SHIPPING_FROM) return 0;
    switch (country) {
      case "BE":
      case "NL":
        return 395;
      case "DE":
        return 495;
      default:
        return 1290;
    }
  }

  vatRate(item: Item): number {
    if (item.category === "food" || item.category === "book") return 0.06;
    if (item.category === "gift_card") return 0;
    return 0.21;
  }

  total(country: string): number {
    return this.subtotal() - this.discount() + this.shipping(country);
  }
}
